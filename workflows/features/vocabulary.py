"""The ids of users and movies in the order of their indices, and the constants that indices obey.

0, 1 and 2 are Categorify's padding, null and out-of-vocabulary codes. From 3 on come the ids that are in the vocabulary
(at least `freq_threshold` training ratings), the most frequent first, then the rest of the catalogue: rated movies,
then those never rated. So an index names one movie, and an index after the vocabulary's last has no embedding of its
own: it takes that of code 2.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, RAW_MOVIE, RAW_USER, USER_ID
from core.errors import UserError

FOLDS = 5
NULL = 1
OUT_OF_VOCABULARY = 2
FIRST_INDEX = 3


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one kind in the order of their indices, which start at `FIRST_INDEX`.

    Attributes:
        ids: int64 [ids].
        counts: int64 [ids], training ratings of each.
        in_vocabulary: how many of them, the first, have an embedding of their own.
        rated: how many of them, the first, have a rating in any split.
    """

    ids: np.ndarray
    counts: np.ndarray
    in_vocabulary: int
    rated: int

    @property
    def embeddings(self) -> int:
        """Rows of the embedding table, the reserved ones included."""
        return FIRST_INDEX + self.in_vocabulary

    @property
    def rows(self) -> int:
        """Rows of the side table, the reserved ones included."""
        return FIRST_INDEX + len(self.ids)

    def frame(self, name: str) -> pd.DataFrame:
        """The table that is written: the ids in a column of that name, their indices, training ratings and flags."""
        known = np.arange(len(self.ids)) < self.in_vocabulary
        index = np.arange(FIRST_INDEX, self.rows, dtype=np.int32)
        rated = np.arange(len(self.ids)) < self.rated
        return pd.DataFrame({name: self.ids, "index": index, "ratings": self.counts, "known": known, "rated": rated})


def fit_vocabularies(
    out: Path, ratings: pq.ParquetFile, movies: pd.DataFrame, users: pd.DataFrame, threshold: int
) -> dict[str, Vocabulary]:
    """Categorify finds the frequent ids of the training rows; the rest of the catalogue follows them.

    Args:
        out: where `split/train/` is read and `vocabulary/` written.
        ratings: the ratings table, all splits.
        threshold: how many training ratings an id must have.

    Returns:
        The vocabularies of `USER_ID` and `MOVIE_ID`.

    Raises:
        UserError: no user or no movie has so many ratings.
    """
    import core.gpu  # noqa: F401

    import nvtabular as nvt
    from merlin.io import Dataset
    from nvtabular import ops

    train = out / "split" / "train" / "ratings.parquet"
    categories = (out / "categories").absolute()
    graph = [RAW_USER, RAW_MOVIE] >> ops.Categorify(freq_threshold=threshold, out_path=str(categories))
    nvt.Workflow(graph).fit(Dataset(str(train.absolute()), engine="parquet", row_groups_per_part=1))
    found = {}
    (out / "vocabulary").mkdir()
    for raw, name, catalogue in ((RAW_USER, USER_ID, users[RAW_USER]), (RAW_MOVIE, MOVIE_ID, movies[RAW_MOVIE])):
        frequent = pd.read_parquet(categories / "categories" / f"unique.{raw}.parquet")
        # Ties in the order of the ids, so that the order does not depend on partitions or on the device.
        frequent = frequent.sort_values([f"{raw}_size", raw], ascending=[False, True])
        ids = frequent[raw].to_numpy(np.int64)
        if not len(ids):
            raise UserError(f"no {name} has {threshold} training ratings; lower --freq-threshold")
        counts = pd.Series(dict(zip(*_value_counts(pq.ParquetFile(train), raw))), dtype=np.int64)
        rated = np.setdiff1d(_value_counts(ratings, raw)[0], ids)
        never = np.setdiff1d(catalogue.to_numpy(np.int64), np.concatenate([ids, rated]))
        all_ids = np.concatenate([ids, rated, never])
        found[name] = Vocabulary(
            ids=all_ids,
            counts=counts.reindex(all_ids).fillna(0).to_numpy(np.int64),
            in_vocabulary=len(ids),
            rated=len(ids) + len(rated),
        )
        found[name].frame(name).to_parquet(out / "vocabulary" / f"{name}.parquet", index=False)
    return found


def _value_counts(table: pq.ParquetFile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Each value of a column, int64, and how often it is there."""
    counts = pc.value_counts(table.read([name])[name])
    return counts.field("values").to_numpy().astype(np.int64), counts.field("counts").to_numpy()
