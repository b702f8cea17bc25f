"""The exception whose message is written for the user, and errors of the system as such messages."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How libraries that do not raise OSError say which error of the system it was: "(os error 28)", "[errno 28]".
NUMBER = re.compile(r"\b(?:os error|errno) (\d+)", re.IGNORECASE)
# Those that do not say it: PyTorch, NumPy and SQLite.
UNNUMBERED = re.compile(
    r"PytorchStreamWriter|inline_container|\d+ requested and \d+ written|disk is full|disk I/O error"
    r"|unable to open database file|readonly database"
)


class UserError(Exception):
    """Something the user can fix: one line that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def system_reason(error: BaseException) -> str:
    """What the system said, in lower case and without a file: "no space left on device"; empty for any other error.

    Libraries have errors of their own for it: safetensors, PyTorch, Arrow, NumPy and SQLite are known.
    """
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return ""
    if isinstance(error, UnicodeEncodeError):  # a name that has surrogates for bytes, or that the locale cannot say
        return f"its name cannot be written in {error.encoding}; rename it" if file_of(error) else ""
    said = error.strerror if isinstance(error, OSError) else None
    message = " ".join((said or str(error)).split())
    if number := NUMBER.search(message):
        return os.strerror(int(number[1])).lower()
    if isinstance(error, OSError):
        return (message or type(error).__name__).lower()
    return message.partition(" [SQL")[0] if UNNUMBERED.search(message) else ""  # SQLAlchemy adds the statement


def file_of(error: BaseException) -> str:
    """The file or folder that an error of the system is about; empty where the error does not say it."""
    if isinstance(error, UnicodeEncodeError):
        return error.object if os.sep in error.object else ""
    names = (getattr(error, "filename", None), getattr(error, "filename2", None))  # two where a file is copied
    return " to ".join(os.fsdecode(name) for name in names if isinstance(name, (str, bytes, os.PathLike)))


def one_line(error: BaseException) -> str:
    """What a library says, on one line and cut; the name of its error where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system inside that names no file is said to be about this file or folder.

    Raises:
        UserError: there was such an error. One that names its file goes on as it is.
    """
    try:
        yield
    except Exception as error:
        reason = system_reason(error)
        if not reason or file_of(error):
            raise
        raise UserError(f"{path}: {reason}") from error
