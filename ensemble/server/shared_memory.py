"""The memory that Triton shares with its Python processes: files in `/dev/shm`, which a killed server leaves behind.

A server's files share a prefix. Beside them is a lock file, which the server and its Python processes hold open; once
none of them lives, the start of the next server removes all of it.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.locks import locked, names

SHARED_MEMORY = Path("/dev/shm")
LOCK_NAME = re.compile(r"(marquee-[0-9a-f]{16})\.lock")


@contextmanager
def reserved(place: Path = SHARED_MEMORY) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The prefix of a new server's files, and the handles that the server must inherit, closed here at the end.

    First removes what servers that are gone have left. Without `/dev/shm` there is a prefix and no handle.
    """
    _clear(place)
    name = f"marquee-{secrets.token_hex(8)}"
    handles = _new_lock(place / f"{name}.lock")
    try:
        yield f"{name}-", handles
    finally:
        for handle in handles:
            os.close(handle)


def release(prefix: str, place: Path = SHARED_MEMORY) -> None:
    """Removes the files of a server that has ended."""
    with suppress(OSError):
        for name in os.listdir(place):
            if name.startswith(prefix) or name == f"{prefix.removesuffix('-')}.lock":
                (place / name).unlink(missing_ok=True)


def _new_lock(path: Path) -> tuple[int, ...]:
    with suppress(OSError):
        while True:  # until it was locked before another process took it for a leftover
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if names(path, handle):
                return (handle,)
            os.close(handle)
    return ()


def _clear(place: Path) -> None:
    with suppress(OSError):
        for match in filter(None, map(LOCK_NAME.fullmatch, os.listdir(place))):
            with suppress(OSError):  # another process removes it just now, or it is another user's
                handle = os.open(place / match[0], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if os.fstat(handle).st_uid == os.getuid() and locked(handle):
                        release(f"{match[1]}-", place)
                finally:
                    os.close(handle)
