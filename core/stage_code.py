"""Fingerprints of a stage's code that see the entries which were added from outside of its packages."""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.artifacts import CHECKOUT, code_digest, fingerprint


def stage_code(rooms: Sequence[str], libraries: Sequence[str], *entries: Mapping[str, Any]) -> str:
    """The digest of what computes a stage's result: its own code, the libraries, and entries from elsewhere.

    A notebook or a test may add a layout, a split or a side feature. Then the file that defines it counts, and the
    names of the entries in their order.

    Args:
        rooms: folders and files of the checkout, as in `core.artifacts.code_digest`.
        libraries: installed packages whose versions count.
        entries: by name, what the stage uses of registries.
    """
    own = [CHECKOUT / room for room in rooms]
    names: list[str] = []
    files: set[Path] = set()
    for each in entries:
        defined = {path for entry in each.values() for path in _defining_files(entry)}
        outside = {path for path in defined if not any(path.is_relative_to(room) for room in own)}
        if outside:
            names += each  # of all, as the place of an entry among the others may count
            files |= {path for path in outside if path.is_file()}
    return fingerprint(code=code_digest(rooms, libraries, *sorted(files)), added=names)


def _defining_files(entry: Any) -> Iterator[Path]:
    """The files of an entry's functions, or of its class and those it inherits from.

    `<unknown>` stands for the file of what was typed in a notebook.
    """
    described = {} if isinstance(entry, type) else getattr(entry, "__dict__", {})
    functions = [getattr(value, "func", value) for value in described.values() if callable(value)]
    kind = entry if isinstance(entry, type) else type(entry)
    inherited = [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in sys.stdlib_module_names]
    for one in functions or inherited:
        try:
            yield Path(inspect.getsourcefile(one) or "<unknown>").resolve()
        except TypeError:  # of a notebook's class
            yield Path("<unknown>")
