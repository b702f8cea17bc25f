"""Writes what is kept of a judged model, a Parquet file for each table, with MovieLens' ids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, TIMESTAMP, USER_ID
from models.data.features import Features
from models.evaluation.judgement import Judgement
from models.evaluation.kept import Kept
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import read_split

MOST_ROWS = 1_000_000  # of a file
ROW_COUNT = "rows"  # the key of the file's metadata that says how many rows there were


def write_kept(folder: Path, judged: Sequence[Judgement], features: Features, seed: int) -> None:
    """Writes `<table>.parquet` for each table that judgements of the test set keep, into a new folder.

    Of more rows than `MOST_ROWS` so many are drawn. How many there were is in the file's metadata.

    Args:
        seed: of what is drawn: with the same seed the same rows of every model.

    Raises:
        ValueError: two tables have the same name.
    """
    folder.mkdir(parents=True)
    for kept in (table for part in judged for table in part.kept):
        path = folder / f"{kept.name}.parquet"
        if path.exists():
            raise ValueError(f"two tables are called {kept.name}")
        there = len(kept.user)
        rows = np.arange(there)
        if there > MOST_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(there, MOST_ROWS, replace=False))
        table = pa.table(_columns(kept, features, rows)).replace_schema_metadata({ROW_COUNT: str(there)})
        pq.write_table(table, path, compression="zstd")


def _columns(kept: Kept, features: Features, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Some rows of a table, with ids in place of indices."""
    ids = {
        name: pq.read_table(features.folder / "vocabulary" / f"{name}.parquet")[name].to_numpy()
        for name in (USER_ID, MOVIE_ID)
    }
    columns = {
        USER_ID: ids[USER_ID][kept.user[rows] - FIRST_INDEX],
        MOVIE_ID: ids[MOVIE_ID][kept.movie[rows] - FIRST_INDEX],
    }
    if kept.has_times:
        columns[TIMESTAMP] = read_split(features.folder, "test", [TIMESTAMP])[TIMESTAMP].to_numpy()[rows]
    return {**columns, **{name: column[rows] for name, column in kept.columns.items()}}
