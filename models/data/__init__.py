"""Features as tensors: splits, training batches, and what a user had rated before."""
