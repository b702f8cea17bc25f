"""What all sessions of the page share: made once, and again where its files have changed."""

import json
from pathlib import Path

import streamlit as st

from core.errors import UserError
from dashboard.catalogue import Catalogue
from dashboard.names import Names
from dashboard.settings import settings
from dashboard.store import Store
from dashboard.triton import Triton


class UnreadableError(UserError):
    """A file of the run cannot be read: one line with the command that makes it."""


@st.cache_resource(show_spinner="Reading the movies")
def _catalogue(tables: str, modified: tuple[float, ...]) -> Catalogue:
    return Catalogue(Path(tables))


def catalogue() -> Catalogue:
    """The movies of the run.

    Raises:
        UnreadableError: its tables cannot be read.
    """
    tables = settings().tables
    try:
        return _catalogue(tables, tuple(modified(Path(tables, name)) for name in ("movies.parquet", "ratings.parquet")))
    except (OSError, ValueError) as error:  # pyarrow's are of these
        raise UnreadableError(f"the tables in {tables} cannot be read; run: {settings().commands['fetch']}") from error


@st.cache_resource(show_spinner=False)
def triton() -> Triton:
    """The connection with the server."""
    return Triton(settings())


@st.cache_resource(show_spinner=False)
def _store(path: str, dataset: str) -> Store:
    return Store(Path(path), dataset)


def store() -> Store:
    """The people and their ratings. Where someone has removed the file, a new one is made.

    Raises:
        StoreError: the file cannot be used.
    """
    if not Path(settings().people).exists():
        _store.clear()
    return _store(settings().people, settings().dataset)


@st.cache_data(show_spinner=False, max_entries=8)
def _json(path: str, modified: float) -> object:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read(path: Path, command: str) -> object:
    """A JSON file's content; None where there is no file.

    Args:
        command: makes the file; one of those of the settings.

    Raises:
        UnreadableError: it holds something else.
    """
    try:
        return _json(str(path), modified(path)) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be read as JSON; run: {settings().commands[command]}") from error


def modified(path: Path) -> float:
    """When a file last changed; 0 where there is none."""
    return path.stat().st_mtime if path.exists() else 0.0


def names(protocol: str = "") -> Names:
    """The names that the report uses, and where a protocol is given those of its metrics."""
    found = read(Path(settings().report, "names.json"), "report")
    known = found if isinstance(found, dict) else {}
    return Names(settings().metrics.get(protocol, {}), known.get("models", {}), known.get("colors", {}))


def networks() -> list[str]:
    """The networks of the exported repository, its default first; one empty name, the server's default, without it."""
    manifest = read(Path(settings().repository, "manifest.json"), "export")
    if not isinstance(manifest, dict) or not manifest.get("networks"):
        return [""]
    return sorted(manifest["networks"], key=lambda name: (name != manifest.get("default_model"), name))
