"""Statistics of the training ratings by fold: popularity, mean stars and mean time of each movie and user.

A statistic used as a feature must not contain the row's own label. Every training row has a random fold, and statistics
are kept once per fold, computed without it, and once over all training rows (fold `FOLDS`), which is what validation,
test and serving use.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from core.columns import FOLD, RATING, TIMESTAMP
from workflows.features.vocabulary import FOLDS
from workflows.splits.base import split_files

PRIOR_RATINGS = 10.0  # how many ratings at the global mean a mean starts from
LEAST_SPREAD = 1e-10  # of a statistic's size: below it are rounding errors (64-bit sums of millions), not differences


def statistics_table(out: Path, kind: str, index: str, rows: int) -> pd.DataFrame:
    """The statistics of the training rows in `out`, a row per fold and entity, the folds one after the other.

    Args:
        kind: `movie` or `user`, which the columns' names begin with.
        index: the column of the training rows that names the entity.
        rows: of the side table, the reserved indices included.
    """
    table = fold_statistics(fold_sums(out, index, rows))
    names = [f"{kind}_popularity", f"{kind}_mean_rating", f"{kind}_mean_time"]
    fold = np.repeat(np.arange(FOLDS + 1, dtype=np.int8), rows)
    entity = np.tile(np.arange(rows, dtype=np.int32), FOLDS + 1)
    flat = {name: table[:, :, i].ravel() for i, name in enumerate(names)}
    return pd.DataFrame({FOLD: fold, index: entity, **flat})


def fold_sums(out: Path, index: str, rows: int) -> np.ndarray:
    """Per fold and entity: the number of training ratings, the sum of their stars, and that of their timestamps.

    Returns:
        float64 [3, FOLDS, rows].
    """
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
        its own rated entities, so that not even the scale depends on what was left out. A statistic that is the same
        for all of them is 0.
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
    size = np.where(rated, np.abs(table), 0).max(axis=1, keepdims=True)
    table = table - np.where(rated, table, 0).sum(axis=1, keepdims=True) / entities
    spread = np.sqrt(np.where(rated, table**2, 0).sum(axis=1, keepdims=True) / entities)
    differs = spread > LEAST_SPREAD * size
    return np.where(differs, table / np.where(differs, spread, 1), 0).astype(np.float32)
