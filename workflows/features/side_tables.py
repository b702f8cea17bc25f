"""Movie and user side tables: what belongs to a movie or to a user, once, to be gathered by index.

A statistic used as a feature must not contain the row's own label. Every training row has a random fold, and statistics
are kept once per fold, computed without it, and once over all training rows (fold `FOLDS`), which is what validation,
test and serving use.
"""

from pathlib import Path
from typing import Any

import numpy as np
import nvtabular as nvt
import pandas as pd
import pyarrow.parquet as pq
from merlin.core.dispatch import HAS_GPU
from merlin.io import Dataset
from nvtabular import ops

from core.columns import (
    AGE,
    FOLD,
    GENDER,
    GENRES,
    MOVIE_ID,
    MOVIE_INDEX,
    OCCUPATION,
    RATING,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    USER_DETAILS,
    USER_ID,
    USER_INDEX,
    YEAR,
)
from workflows.features.saved import load_workflow, save_workflow
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, NULL, OUT_OF_VOCABULARY, Vocabulary
from workflows.splits.base import split_files

PRIOR_RATINGS = 10.0  # how many ratings at the global mean a statistic starts from
AGE_GROUPS = [18, 25, 35, 45, 50, 56]  # MovieLens-1M's


def unknown_to_null(year: Any) -> Any:
    """Years in float32, the 0 that stands for unknown as null. Named, as LambdaOp's functions are saved by name."""
    return year.astype("float32").where(year > 0)


def write_side_tables(
    out: Path, movies: pd.DataFrame, users: pd.DataFrame, vocabularies: dict[str, Vocabulary]
) -> tuple[dict[str, int], list[str]]:
    """Writes the four side tables; returns the cardinality of each user detail and the continuous features' names."""
    (out / "side").mkdir()
    genres = _movie_features(out, movies, vocabularies[MOVIE_ID])
    cardinalities = _user_features(out, users, vocabularies[USER_ID])
    names = [*genres, YEAR]
    for kind, index, vocabulary in (("movie", MOVIE_INDEX, MOVIE_ID), ("user", USER_INDEX, USER_ID)):
        table = fold_statistics(_fold_sums(out, index, vocabularies[vocabulary].rows))
        columns = [f"{kind}_popularity", f"{kind}_mean_rating", f"{kind}_mean_time"]
        flat = {name: table[:, :, i].ravel() for i, name in enumerate(columns)}
        fold = np.repeat(np.arange(FOLDS + 1, dtype=np.int8), table.shape[1])
        entity = np.tile(np.arange(table.shape[1], dtype=np.int32), FOLDS + 1)
        frame = pd.DataFrame({FOLD: fold, index: entity, **flat})
        frame.to_parquet(out / "side" / f"{kind}_statistics.parquet", index=False)
        names += columns
    return cardinalities, names


def _fold_sums(out: Path, index: str, rows: int) -> np.ndarray:
    """Per entity and fold: how many training ratings, their stars and their seconds, float64 [3, FOLDS, rows]."""
    sums = np.zeros((3, FOLDS * rows))
    for path in split_files(out, "train"):
        table = pq.read_table(path, columns=[index, FOLD, RATING, TIMESTAMP])
        place = table[FOLD].to_numpy().astype(np.int64) * rows + table[index].to_numpy()
        for total, weights in zip(sums, (None, table[RATING].to_numpy(), table[TIMESTAMP].to_numpy())):
            total += np.bincount(place, weights, FOLDS * rows)
    return sums.reshape(3, FOLDS, rows)


def fold_statistics(by_fold: np.ndarray) -> np.ndarray:
    """Popularity, mean rating and mean time per entity, once without each fold, and over all training rows.

    Args:
        by_fold: float64 [3, FOLDS, entities], of each entity's training ratings in each fold: their number, the sum of
            their stars, and that of their timestamps. Entities include the reserved indices.

    Returns:
        float32 [FOLDS + 1, entities, 3]: the logarithm of 1 + ratings, scaled up to all folds; the mean stars; the mean
        timestamp. The means are shrunk to the global ones by `PRIOR_RATINGS` ratings, and each table is standardised by
        its own rated entities, so that not even the scale tells of what was left out.
    """
    everything = by_fold.sum(axis=1, keepdims=True)
    counts, stars, seconds = np.concatenate([everything - by_fold, everything], axis=1)
    used = counts.sum(axis=1, keepdims=True)

    def shrunk_mean(totals: np.ndarray) -> np.ndarray:
        global_mean = totals.sum(axis=1, keepdims=True) / np.maximum(used, 1)
        return (totals + PRIOR_RATINGS * global_mean) / (counts + PRIOR_RATINGS)

    popularity = np.log1p(counts * used[-1] / np.maximum(used, 1))
    table = np.stack([popularity, shrunk_mean(stars), shrunk_mean(seconds)], axis=2)
    rated = (counts > 0)[:, :, None]
    entities = np.maximum(rated.sum(axis=1, keepdims=True), 1)
    table = table - np.where(rated, table, 0).sum(axis=1, keepdims=True) / entities
    spread = np.sqrt(np.where(rated, table**2, 0).sum(axis=1, keepdims=True) / entities)
    return (table / np.where(spread > 0, spread, 1)).astype(np.float32)


def _movie_features(out: Path, movies: pd.DataFrame, vocabulary: Vocabulary) -> list[str]:
    """Genres as multi-hot columns and the standardised year (0 where unknown), a row per movie index.

    Returns:
        The names of the genre columns.
    """
    graph = [YEAR] >> ops.LambdaOp(unknown_to_null) >> ops.Normalize() >> ops.FillMissing(0)
    frame = movies.set_index(RAW_MOVIE).loc[vocabulary.ids, [GENRES, YEAR]].reset_index(drop=True)
    frame[GENRES] = frame[GENRES].map(list)
    has_genres = bool(frame[GENRES].map(len).any())  # Categorify cannot tell the type of nothing but empty lists
    if has_genres:
        graph = graph + ([GENRES] >> ops.Categorify(out_path=str(out / "categories" / "movies")))
    result = _fit_and_save(graph, frame if has_genres else frame[[YEAR]], out / "workflow" / "movies")
    table = pd.DataFrame({MOVIE_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})
    names: list[str] = []
    if has_genres:
        found = pd.read_parquet(out / "categories" / "movies" / "categories" / f"unique.{GENRES}.parquet")[GENRES]
        codes = np.concatenate([np.asarray(row, np.int64) for row in result[GENRES]])
        rows = np.repeat(np.arange(len(result)), [len(row) for row in result[GENRES]])
        hot = np.zeros((vocabulary.rows, FIRST_INDEX + len(found)), np.float32)
        hot[FIRST_INDEX + rows, codes] = 1
        order = np.argsort(found.to_numpy(str))  # by name: Categorify's order of ties is not the same on every device
        names = [f"genre_{found.iloc[i]}" for i in order]
        table = pd.concat([table, pd.DataFrame(hot[:, FIRST_INDEX + order], columns=names)], axis=1)
    year = np.zeros(vocabulary.rows, np.float32)
    year[FIRST_INDEX:] = result[YEAR]
    table[YEAR] = year
    table.to_parquet(out / "side" / "movie_features.parquet", index=False)
    return names


def _user_features(out: Path, users: pd.DataFrame, vocabulary: Vocabulary) -> dict[str, int]:
    """Categorify's codes of gender, age group and occupation where the dataset has them, a row per user index.

    Returns:
        How many codes each of them has, the reserved ones included.
    """
    table = pd.DataFrame({USER_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})
    details = [name for name in USER_DETAILS if name in users.columns]
    cardinalities = {}
    if details:
        frame = users.set_index(RAW_USER).loc[vocabulary.ids, details].reset_index(drop=True)
        plain = [name for name in (GENDER, OCCUPATION) if name in details]
        graph = plain + ([AGE] >> ops.Bucketize({AGE: AGE_GROUPS}) if AGE in details else [])
        graph = graph >> ops.Categorify(out_path=str(out / "categories" / "users"))
        result = _fit_and_save(graph, frame, out / "workflow" / "users")
        for name in details:
            codes = np.full(vocabulary.rows, OUT_OF_VOCABULARY, np.int32)
            codes[FIRST_INDEX:] = np.where(frame[name].isna(), NULL, result[name])  # Bucketize takes no age for old age
            table[name] = codes
            known = pd.read_parquet(out / "categories" / "users" / "categories" / f"unique.{name}.parquet")
            cardinalities[name] = FIRST_INDEX + len(known)
    table.to_parquet(out / "side" / "user_features.parquet", index=False)
    return cardinalities


def _fit_and_save(graph: Any, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Fits a side table's workflow, saves it, and gives what it makes of the table, in pandas."""
    workflow = nvt.Workflow(graph)
    workflow.fit(Dataset(frame))
    save_workflow(workflow, folder)
    result = load_workflow(folder).transform(Dataset(frame)).to_ddf().compute()
    return (result.to_pandas() if HAS_GPU else result).reset_index(drop=True)
