"""The front door: what clients talk to. It checks, bounds and orders their requests, and asks Triton itself."""
