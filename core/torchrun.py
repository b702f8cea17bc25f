"""Which of several processes this is, where torchrun started them, without importing PyTorch."""

import os


def rank() -> int:
    """0 for the first process, and where there is one alone."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of those on this machine it is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
