"""The trained networks, a file each, on Merlin Models' PyTorch blocks."""
