"""The trained networks, a file each, on Merlin Models' PyTorch blocks."""

import core.gpu  # noqa: F401  before Merlin
