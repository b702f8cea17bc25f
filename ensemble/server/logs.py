"""Servers' logs: one server writes to each, the last ones are kept, and none of them is large."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import UserError, system_reason
from core.locks import Held, held

KEPT = 5  # earlier logs: `triton.log.1` is the last one
LARGEST = 8 << 20  # bytes
END = 64 << 10  # bytes that are read to find an error


@contextmanager
def claimed(log: Path) -> Iterator[Path]:
    """A log that no other process writes to meanwhile: `log` itself, else `<stem>-2.log`, `<stem>-3.log` and so on.

    Raises:
        UserError: its folder cannot be written.
    """
    number = 1
    while True:
        path = log if number == 1 else log.with_name(f"{log.stem}-{number}{log.suffix}")
        lock = held(path.with_name(f".{path.name}.lock"))
        try:
            lock.__enter__()
        except Held:
            number += 1
            continue
        except OSError as error:
            raise UserError(f"{log} cannot be written: {system_reason(error)}; choose another --log") from None
        try:
            yield path
        finally:
            with suppress(OSError):  # its folder is gone
                lock.__exit__(None, None, None)
        return


def rotate(log: Path) -> None:
    """Makes room for a new log: what is there becomes `<log>.1`, that becomes `<log>.2`, and so on up to `KEPT`.

    A process that appends to the log goes on at its start.

    Raises:
        OSError: the folder is gone, or cannot be written.
    """
    if not log.exists() or not log.stat().st_size:
        return
    for number in range(KEPT, 1, -1):
        with suppress(FileNotFoundError):
            _kept(log, number - 1).replace(_kept(log, number))
    _kept(log, 1).write_bytes(end_of(log, LARGEST))
    os.truncate(log, 0)


def trim(log: Path) -> None:
    """Rotates a log that has become too large while its server runs."""
    with suppress(OSError):
        if log.stat().st_size > LARGEST:
            rotate(log)


def end_of(log: Path, size: int = END, start: int = 0) -> bytes:
    """The last bytes of a log.

    Args:
        size: at most so many.
        start: none from before this byte.

    Raises:
        OSError: it cannot be read.
    """
    with open(log, "rb") as file:
        file.seek(max(start, os.fstat(file.fileno()).st_size - size))
        return file.read()


def last_error(log: Path, start: int = 0) -> str:
    """Why a model could not be loaded, else the last error in a server's log, else its last line.

    Args:
        start: what is before this byte is not looked at.
    """
    try:
        text = end_of(log, start=start).decode(errors="replace")
    except OSError as error:
        return f"its log cannot be read ({system_reason(error)})"
    lines = [line for line in text.splitlines() if line.strip()]
    # Without a GPU, each look for one is logged as an error.
    errors = [line for line in lines if line.startswith(("E", "error", "Error")) and "cuda" not in line.lower()]
    causes = [line for line in errors if "failed to load '" in line]
    found = causes or errors or lines or ["its log is empty"]
    return found[-1][:300]


def _kept(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
