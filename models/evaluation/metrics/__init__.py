"""Metrics, registered by name with their direction and their titles: a file for each kind of question."""
