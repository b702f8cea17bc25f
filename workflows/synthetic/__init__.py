"""Synthetic datasets: drawn from a model that is known in full, at the size of a MovieLens release."""
