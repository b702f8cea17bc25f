"""Paths for libraries that take some paths for patterns, URLs or partitions of a dataset, as fsspec and Dask do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.temporary import temporary_folder

# Brackets and stars are patterns, `::` and `file:` URLs, `x=1` a partition; a byte that is not UTF-8 is in no encoding.
PLAIN = re.compile(r"[\w ./,+@-]*")
PREFIX = "marquee-link-"


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """An absolute path to a folder, without any character that has a meaning to a library, while the block runs.

    It is the folder's own where that is so, else it leads through a link in the system's temporary folder. Call
    `absolute`, not `resolve`, on what is below it: that would follow the link.

    Raises:
        UserError: the path of the temporary folder has such characters, too.
    """
    absolute = folder.absolute()
    if _odd(absolute) is None:
        yield absolute
        return
    with temporary_folder(PREFIX) as temporary:
        odd = _odd(temporary)
        if odd:
            raise UserError(f"the temporary folder {temporary.parent} has {odd!r} in its name; set TMPDIR to another")
        link = temporary / "folder"
        link.symlink_to(absolute, target_is_directory=True)
        yield link


def _odd(path: Path) -> str | None:
    """The first character that a library may not take as it is."""
    text = str(path)
    plain = PLAIN.match(text)
    end = plain.end() if plain else 0
    return text[end] if end < len(text) else None
