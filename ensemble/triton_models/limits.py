"""What a request may ask for."""

DEFAULT_K = 10
LARGEST_K = 1000
LARGEST_BATCH = 1 << 18  # pairs of one request, so that none keeps the others waiting for long
LARGEST_HISTORY = 10_000


class BadRequest(Exception):
    """The client's mistake, in one sentence."""


def k_out_of_range(k: int) -> str:
    """The error message for a `k` that is too small or too large."""
    return f"k is {k}; it must be from 1 to {LARGEST_K}"


def check_k(k: int) -> None:
    """
    Raises:
        BadRequest: `k` is outside 1 to `LARGEST_K`.
    """
    if not 1 <= k <= LARGEST_K:
        raise BadRequest(k_out_of_range(k))
