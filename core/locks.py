"""Locks on names in the file system: one process at a time, and none left behind by a process that was killed."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock file `path` for this process, and removes the file at the end.

    The kernel releases the lock of a process that ends in whatever way, so a file that it leaves blocks no other.

    Args:
        path: in an existing folder.
        waits: called once before waiting for another process; None to raise `Held` instead of waiting.

    Raises:
        Held: another process holds it, and `waits` is None.
        OSError: the file cannot be written.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        while True:
            if not locked(handle):
                if waits is None:
                    raise Held(str(path))
                waits()
                waits = _silent
                fcntl.flock(handle, fcntl.LOCK_EX)
            if names(path, handle):  # and not one that its last holder has removed meanwhile
                break
            os.close(handle)
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def locked(handle: int) -> bool:
    """Whether this process got the lock of an open file or folder, without waiting for it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def names(path: Path, handle: int) -> bool:
    """Whether `path` is still the open file or folder, which may have been removed or replaced since."""
    try:
        now = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(handle))


def _silent() -> None:
    pass
