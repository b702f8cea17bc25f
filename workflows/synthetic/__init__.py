"""Synthetic stand-ins for MovieLens releases, with a known truth."""
