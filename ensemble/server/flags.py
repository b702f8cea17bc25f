"""Triton's releases differ in the flags that they take: the server that is there is asked for its own."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from core.errors import UserError

LISTED = re.compile(r"^\s*(--[a-z0-9-]+)", re.MULTILINE)
HELP_SECONDS = 60
# Without these the server works the same, with a larger footprint.
DISPENSABLE = frozenset({"--allow-gpu-metrics", "--pinned-memory-pool-byte-size"})
UNPROTECTED = {
    "--grpc-restricted-protocol": "it cannot be protected: any user of this machine could change its memory and "
    "settings; use Triton 2.35 (23.06) or newer",
}


def fitting(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments of a `tritonserver` that it takes: what is only convenient is left out where it is not known.

    Args:
        arguments: the server and its flags, each as `--flag` or `--flag=value`.
        environment: what the server is started with.

    Raises:
        UserError: the server does not take a flag that matters, or cannot be run.
    """
    known = listed_flags(arguments[0], environment)
    if not known:
        return list(arguments)  # it says why when it is started
    unknown = {flag for argument in arguments[1:] if (flag := argument.partition("=")[0]) not in known}
    needed = sorted(unknown - DISPENSABLE)
    if needed:
        reason = UNPROTECTED.get(needed[0], "Marquee needs it; use Triton 2.35 (23.06) or newer")
        raise UserError(f"{arguments[0]} does not take {needed[0]}: {reason}")
    return [argument for argument in arguments if argument.partition("=")[0] not in unknown]


def listed_flags(binary: str, environment: Mapping[str, str]) -> frozenset[str]:
    """The flags in a server's help, `--name` each; none where it prints no help. A file is asked once.

    Raises:
        UserError: it cannot be run.
    """
    try:
        found = os.stat(binary)
    except OSError as error:
        raise UserError(f"{binary} cannot be run: {error.strerror}") from None
    key = (binary, found.st_mtime_ns, found.st_size)
    if key not in _listed:
        _listed[key] = _ask_for_flags(binary, environment)
    return _listed[key]


_listed: dict[tuple[str, int, int], frozenset[str]] = {}


def _ask_for_flags(binary: str, environment: Mapping[str, str]) -> frozenset[str]:
    try:
        # Triton prints its help on standard error and ends with exit code 1.
        done = subprocess.run(
            [binary, "--help"], env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=HELP_SECONDS
        )
    except OSError as error:
        raise UserError(f"{binary} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{binary} --help did not end in {HELP_SECONDS} s; it cannot be used") from None
    return frozenset(LISTED.findall((done.stdout + done.stderr).decode(errors="replace")))
