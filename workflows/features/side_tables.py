"""Movie and user side tables: what belongs to a movie or to a user, once, to be gathered by index."""

from dataclasses import dataclass
from pathlib import Path

from core.gpu import HAS_CUDF

import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

from core.columns import FOLD, GENRES, MOVIE_ID, MOVIE_INDEX, RAW_MOVIE, RAW_USER, USER_ID, USER_INDEX
from workflows.features.saved import load_workflow, save_workflow
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature, UserFeature
from workflows.features.statistics import statistics_table
from workflows.features.vocabulary import FIRST_INDEX, OUT_OF_VOCABULARY, Vocabulary


@dataclass(frozen=True)
class SideColumns:
    """What the side tables hold.

    Attributes:
        movie_features: the columns of each movie feature, by the feature's name.
        continuous: the names of all continuous columns, in the order in which a model reads them.
        cardinalities: how many codes each user feature has, the reserved ones included.
    """

    movie_features: dict[str, list[str]]
    continuous: list[str]
    cardinalities: dict[str, int]


def write_side_tables(
    out: Path, movies: pd.DataFrame, users: pd.DataFrame, vocabularies: dict[str, Vocabulary]
) -> SideColumns:
    """Writes the four side tables into `out/side/`, from the tables and from the training rows in `out`."""
    (out / "side").mkdir()
    movie_features = _write_movie_features(out, movies, vocabularies[MOVIE_ID])
    cardinalities = _write_user_features(out, users, vocabularies[USER_ID])
    continuous = [name for names in movie_features.values() for name in names]
    for kind, index, vocabulary in (("movie", MOVIE_INDEX, MOVIE_ID), ("user", USER_INDEX, USER_ID)):
        table = statistics_table(out, kind, index, vocabularies[vocabulary].rows)
        table.to_parquet(out / "side" / f"{kind}_statistics.parquet", index=False)
        continuous += [name for name in table.columns if name not in (FOLD, index)]
    return SideColumns(movie_features, continuous, cardinalities)


def _write_movie_features(out: Path, movies: pd.DataFrame, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """A row per movie index, 0 for the reserved ones. Returns the columns of each feature."""
    tables = [pd.DataFrame({MOVIE_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})]
    columns = {}
    frame = movies.set_index(RAW_MOVIE).loc[vocabulary.ids].reset_index(drop=True)
    frame[GENRES] = frame[GENRES].map(list)  # Parquet gives arrays, which Categorify does not take
    for name, feature in SIDE_FEATURES.items():
        if not isinstance(feature, MovieFeature):
            continue
        result = _apply(out, name, feature, frame)
        if result is None:
            continue
        values = feature.values(result, _scratch(out, name))
        columns[name] = list(values.columns)
        whole = np.zeros((vocabulary.rows, len(columns[name])), np.float32)
        whole[FIRST_INDEX:] = values
        tables.append(pd.DataFrame(whole, columns=columns[name]))
    pd.concat(tables, axis=1).to_parquet(out / "side" / "movie_features.parquet", index=False)
    return columns


def _write_user_features(out: Path, users: pd.DataFrame, vocabulary: Vocabulary) -> dict[str, int]:
    """A row per user index, the code of out-of-vocabulary for the reserved ones. Returns each feature's cardinality."""
    table = pd.DataFrame({USER_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})
    cardinalities = {}
    frame = users.set_index(RAW_USER).loc[vocabulary.ids].reset_index(drop=True)
    for name, feature in SIDE_FEATURES.items():
        if not isinstance(feature, UserFeature):
            continue
        result = _apply(out, name, feature, frame)
        if result is None:
            continue
        codes, cardinalities[name] = feature.codes(frame[list(feature.source)], result, _scratch(out, name))
        whole = np.full(vocabulary.rows, OUT_OF_VOCABULARY, np.int32)
        whole[FIRST_INDEX:] = codes
        table[name] = whole
    table.to_parquet(out / "side" / "user_features.parquet", index=False)
    return cardinalities


def _apply(out: Path, name: str, feature: MovieFeature | UserFeature, table: pd.DataFrame) -> pd.DataFrame | None:
    """Fits a feature's workflow and saves it; returns what it makes of the table, or None without such a feature."""
    if not set(feature.source) <= set(table.columns):
        return None
    frame = table[list(feature.source)]
    graph = feature.graph(frame, _scratch(out, name))
    if graph is None:
        return None
    folder = out / "workflow" / f"{feature.owner}s" / name
    save_workflow(nvt.Workflow(graph).fit(Dataset(frame)), folder)
    result = load_workflow(folder).transform(Dataset(frame)).to_ddf().compute()
    return (result.to_pandas() if HAS_CUDF else result).reset_index(drop=True)


def _scratch(out: Path, name: str) -> Path:
    """Where a feature's Categorify writes."""
    return (out / "categories" / "side" / name).absolute()
