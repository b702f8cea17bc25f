"""What a request may ask for."""

from collections.abc import Iterable

DEFAULT_K = 10
LARGEST_K = 1000
LARGEST_BATCH = 1 << 18  # pairs of one request, so that none keeps the others waiting for long
LARGEST_HISTORY = 10_000


class BadRequest(Exception):
    """The client's mistake, in one sentence."""


def choose(what: str, name: str, default: str, choices: Iterable[str]) -> str:
    """The name that a request gives, or the default where it gives none.

    Raises:
        BadRequest: there is no such `what`.
    """
    name = name or default
    if name not in choices:
        raise BadRequest(f"unknown {what} {name[:40]!r}; choose one of {', '.join(choices)}")
    return name


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
