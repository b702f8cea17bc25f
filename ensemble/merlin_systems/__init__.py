"""Merlin Systems' own runtime, for the same models, to compare with."""
