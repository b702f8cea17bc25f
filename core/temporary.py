"""Temporary folders that do not outlive their process: what a killed one leaves is cleared by the next."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.locks import locked, names

SUFFIX = ".held"  # in the name, as folders that were made in another way are held by no lock and must stay
RANDOM = "[a-z0-9_]{8}"  # what `tempfile.mkdtemp` puts between prefix and suffix


@contextmanager
def temporary_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """An empty folder, removed at the end.

    First removes the folders of the same prefix and the same user whose processes are gone. A folder is locked while
    its block runs, by this process and by those that it forks; the kernel releases the lock when they end, however.

    Args:
        prefix: of the name, such as `marquee-serve-`.
        place: the folder to make it in; None for the system's temporary folder.

    Raises:
        OSError: there is no such folder, or it cannot be written.
    """
    clear(prefix, place)
    folder, handle = _new(prefix, place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _new(prefix: str, place: Path | None) -> tuple[Path, int]:
    """A new folder and the handle that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=place))
        try:
            handle = _opened(folder)
        except FileNotFoundError:  # another process cleared it before it was locked
            continue
        with suppress(OSError):  # where the file system has no locks, no process clears either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if names(folder, handle):
            return folder, handle
        os.close(handle)


def clear(prefix: str, place: Path | None = None) -> None:
    """Removes this user's folders of that prefix that no process holds, in a place as in `temporary_folder`."""
    name = re.compile(f"{re.escape(prefix)}{RANDOM}{re.escape(SUFFIX)}")
    with os.scandir(place or tempfile.gettempdir()) as entries:
        found = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    for folder in found:
        try:
            handle = _opened(folder)
        except OSError:  # another process removes it just now, or it is not a folder
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid() and locked(handle):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
