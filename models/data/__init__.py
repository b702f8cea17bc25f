"""Features as tensors: splits, training batches, and what a user had rated before."""

import core.gpu  # noqa: F401  before Merlin
