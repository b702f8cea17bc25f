"""Whether a request carries the secret, in any of the ways that clients have."""

import hmac
from collections.abc import Iterable

from ensemble.headers import CANARY_HEADER, GRPC_PREFIX, SECRET_HEADER

BEARER = "bearer "


def has_secret(headers: Iterable[tuple[str, str | bytes]], secret: str) -> bool:
    """Whether one of a request's headers is the secret: `marquee-secret`, or `Authorization: Bearer`.

    Args:
        headers: names and values; the names in any case.
        secret: empty where none is asked for.
    """
    if not secret:
        return True
    expected = secret.encode()
    return any(hmac.compare_digest(expected, given) for given in _given(headers))


def is_canary(headers: Iterable[tuple[str, str | bytes]]) -> bool:
    """Whether a request is only to find out whether the server answers."""
    return any(name.lower() == CANARY_HEADER for name, _ in headers)


def _given(headers: Iterable[tuple[str, str | bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        lower = name.lower()
        found = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if lower.removeprefix(GRPC_PREFIX) == SECRET_HEADER:
            yield found
        elif lower == "authorization" and found[: len(BEARER)].lower() == BEARER.encode():
            yield found[len(BEARER) :].strip()
