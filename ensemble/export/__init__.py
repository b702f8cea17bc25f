"""Trained networks to a version of the Triton model repository."""
