"""Relative paths that were read from a file: whether one stays in the folder that it is about."""

from pathlib import Path, PurePosixPath

LONGEST_PART = 255  # bytes, as most file systems have it
LONGEST_PATH = 4000


def is_inner(name: str) -> bool:
    """Whether a path is plain and relative, as `as_posix` writes it: it cannot lead out of a folder by itself.

    Absolute paths, `..`, `.`, empty parts, control characters and what no file system can hold are none.
    """
    if not name.isprintable():
        return False
    encoded = name.encode()
    parts = encoded.split(b"/")
    return len(encoded) <= LONGEST_PATH and all(
        part not in (b"", b".", b"..") and len(part) <= LONGEST_PART for part in parts
    )


def is_behind_link(folder: Path, name: str) -> bool:
    """Whether a symbolic link is on the way from a folder to one of its files, or is that file."""
    inner = PurePosixPath(name)
    ways = [part for part in (inner, *inner.parents) if part.name]
    return any((folder / part).is_symlink() for part in ways)
