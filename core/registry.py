"""Registries: entries of one kind by name, each added by its own file."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from core.errors import UserError

Entry = TypeVar("Entry")
LAST = 100


def names_of_files(package: str) -> tuple[str, ...]:
    """The names of the entries that a package's modules add, without importing them: help texts must not wait.

    A module is called as its entry is, with `_` for `-`; `base` and those that begin with `_` add none.
    """
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    names = [module.name for module in pkgutil.iter_modules(folders or [])]
    return tuple(name.replace("_", "-") for name in names if not name.startswith("_") and name != "base")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries of one kind, such as networks or metrics, in the order in which they are displayed.

    The modules of a package add the entries when they are imported, which happens at the first access. A notebook or a
    test can add one with `add`, without a file in the package.
    """

    def __init__(self, kind: str, package: str):
        """
        Args:
            kind: what an entry is called in messages, in the singular.
            package: the full name of the package (or module) that adds the entries.
        """
        self.kind, self.package = kind, package
        self._entries: dict[str, tuple[int, Entry]] = {}
        self._loaded = False

    def add(self, name: str, entry: Entry, position: int = LAST) -> Entry:
        """Adds an entry, or replaces the one of that name.

        Args:
            position: its place in lists and tables, the lowest first; equal places are in the order of their names.
        """
        self._entries[name] = (position, entry)
        return entry

    def remove(self, name: str) -> None:
        """Takes an entry out again."""
        del self._entries[name]

    def choose(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UserError: there is none; the message lists those there are.
        """
        if name not in self:
            raise UserError(f"unknown {self.kind} {name!r}; choose one of {', '.join(self)}")
        return self[name]

    def __getitem__(self, name: str) -> Entry:
        self._load()
        return self._entries[name][1]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries, key=lambda name: (self._entries[name][0], name)))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # before the imports, which may read the registry themselves
        try:
            package = importlib.import_module(self.package)
            for folder in getattr(package, "__path__", []):
                for path in sorted(Path(folder).glob("*.py")):
                    if not path.stem.startswith("_"):
                        importlib.import_module(f"{self.package}.{path.stem}")
        except BaseException:
            self._loaded = False
            raise
