"""Marquee: MovieLens ratings to recommendations served by Triton, on the NVIDIA Merlin stack."""

__version__ = "0.1.0"
