"""Training: the loop, checkpoints, optimizers, settings and the shipped defaults."""
