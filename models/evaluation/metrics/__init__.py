"""Metrics, registered by name with their direction and how they are shown: a file for each kind of question."""
