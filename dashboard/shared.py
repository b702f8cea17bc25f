"""What all sessions of the page share: made once, and again where its files have changed."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from dashboard.catalogue import Catalogue
from dashboard.settings import settings
from dashboard.store import Store
from dashboard.triton import Triton


@dataclass(frozen=True)
class Names:
    """What models and metrics are called, and the models' colours, as the report has written them.

    Attributes:
        models: titles by model.
        metrics: titles by metric.
        colors: CSS colours by model.
    """

    models: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        """A model's title; without a report its name in capitals where it is short, as abbreviations are."""
        return self.models.get(name) or (name.upper() if len(name) <= 4 else name.capitalize())

    def metric(self, name: str) -> str:
        """A metric's title; without a report its name."""
        return self.metrics.get(name) or (name.upper() if "@" in name else name).replace("_", " ").replace("FULL ", "full ")


@st.cache_resource(show_spinner="Reading the movies")
def _catalogue(tables: str, modified: float) -> Catalogue:
    return Catalogue(Path(tables))


def catalogue() -> Catalogue:
    """The movies of the run."""
    tables = settings().tables
    return _catalogue(tables, modified(Path(tables, "movies.parquet")))


@st.cache_resource(show_spinner=False)
def triton() -> Triton:
    """The connection with the server."""
    return Triton(settings())


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The people and their ratings.

    Raises:
        StoreError: the file cannot be used.
    """
    return Store(Path(settings().people), settings().dataset)


@st.cache_data(show_spinner=False, max_entries=8)
def _json(path: str, modified: float) -> object:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read(path: Path) -> object:
    """A JSON file's content; None where there is no file."""
    return _json(str(path), modified(path)) if path.is_file() else None


def modified(path: Path) -> float:
    """When a file last changed; 0 where there is none."""
    return path.stat().st_mtime if path.exists() else 0.0


def names() -> Names:
    """The names that the report uses."""
    found = read(Path(settings().report, "names.json"))
    return Names(**found) if isinstance(found, dict) else Names()


def networks() -> list[str]:
    """The networks of the exported repository, its default first; one empty name, the server's default, without it."""
    manifest = read(Path(settings().repository, "manifest.json"))
    if not isinstance(manifest, dict) or not manifest.get("networks"):
        return [""]
    return sorted(manifest["networks"], key=lambda name: (name != manifest.get("default_model"), name))
