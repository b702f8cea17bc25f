"""A protocol's features as tensors, read from Parquet by merlin-dataloader."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from merlin.dataloader.torch import Loader
from merlin.io import Dataset
from merlin.schema import Schema
from torch import Tensor

from core.columns import FOLD, LABEL, LATER, MOVIE_INDEX, NEGATIVES, NOT_BEFORE, RATING, USER_INDEX
from core.plain_path import plain_path
from models.data.interactions import Candidates, Interactions
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import read_split, split_files

READ_ROWS = 1 << 18
KEPT_ROWS = 1 << 21  # of a split that is read once, as a training asks for it ten times: 50 MB
# What `Interactions` holds: the column of each field, and its type.
READ = {
    "user": (USER_INDEX, torch.int32),
    "movie": (MOVIE_INDEX, torch.int32),
    "fold": (FOLD, torch.int8),
    "later": (LATER, torch.int32),
    "not_before": (NOT_BEFORE, torch.int32),
    "stars": (RATING, torch.float32),
    "label": (LABEL, torch.float32),
}


@dataclass(frozen=True, kw_only=True)
class SideTables:
    """What belongs to a movie or to a user, once, to be gathered by index.

    Attributes:
        user_details: int64 [users, details], Categorify's codes; no columns where the dataset has no details.
        user_statistics: float32 [FOLDS + 1, users, 3], or None where a model must not see them.
        movie_features: float32 [movies, genres + 1].
        movie_statistics: float32 [FOLDS + 1, movies, 3].
        detail_names: the columns of `user_details`.
        movie_columns: the columns of `movie_features`, by the feature that they belong to.
    """

    user_details: Tensor
    user_statistics: Tensor | None
    movie_features: Tensor
    movie_statistics: Tensor
    detail_names: tuple[str, ...]
    movie_columns: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a protocol's folder holds, loaded but for the interactions.

    Attributes:
        user_embeddings, movie_embeddings: rows of the embedding tables; an index from there on is out of vocabulary.
        users, movies: rows of the side tables, the reserved indices included.
        rated_movies: how many movies, from `FIRST_INDEX` on, have a rating in any split: the catalogue.
        fingerprint: of everything that the features were made from.
        label: what a model learns of each row: the protocol's.
        known: the splits whose ratings a network may know of beforehand.
    """

    protocol: str
    dataset: str
    folder: Path
    schema: Schema
    side: SideTables
    user_embeddings: int
    movie_embeddings: int
    users: int
    movies: int
    rated_movies: int
    fingerprint: str
    label: Callable[[Interactions], Tensor]
    known: tuple[str, ...] = ("train",)

    @cached_property
    def _kept(self) -> dict[str, Interactions]:
        return {}

    @property
    def catalogue(self) -> np.ndarray:
        """The indices of the movies that are ranked, int64 [rated_movies]."""
        return np.arange(FIRST_INDEX, FIRST_INDEX + self.rated_movies)

    def interactions(self, part: str) -> Interactions:
        """One split (`train`, `valid`, `test`), read by merlin-dataloader into index tensors, not to be changed.

        A split of no more than `KEPT_ROWS` is read once.
        """
        if part in self._kept:
            return self._kept[part]
        # On the GPU only where PyTorch can take the rows there.
        on_cpu = None if torch.cuda.is_available() else True
        with plain_path(self.folder) as folder:
            paths = [str(path) for path in split_files(folder, part)]
            rows = self._read(Dataset(paths, engine="parquet", cpu=on_cpu))
        rows = replace(rows, label=self.label(rows))
        if len(rows) <= KEPT_ROWS:
            self._kept[part] = rows
        return rows

    @staticmethod
    def _read(dataset: Dataset) -> Interactions:
        """All rows of a dataset, without their labels."""
        dataset.schema = Schema([dataset.schema[name] for name, _ in READ.values()])
        columns = {name: torch.empty(dataset.num_rows, dtype=dtype) for name, (_, dtype) in READ.items()}
        start = 0
        with Loader(dataset, READ_ROWS, shuffle=False) as loader:
            # Never asked for more than there is: Merlin's loader would wait for ever on a reader that has nothing left
            # and has not ended yet.
            while start < dataset.num_rows:
                inputs, label = next(loader)
                chunks = {**inputs, LABEL: label}
                for name, (column, _) in READ.items():
                    columns[name][start : start + len(label)] = chunks[column].reshape(-1)
                start += len(label)
        return Interactions(**columns)

    def candidates(self, part: str) -> Candidates:
        """The questions of `valid` or `test`, where the split has candidates."""
        table = pq.read_table(self.folder / f"candidates-{part}.parquet")
        negatives = table[NEGATIVES].combine_chunks().flatten().to_numpy()
        user, positive, not_before = (table[name].to_numpy() for name in (USER_INDEX, MOVIE_INDEX, NOT_BEFORE))
        return Candidates(user, positive, negatives.reshape(len(table), -1), not_before)

    def seen(self, *parts: str) -> tuple[np.ndarray, np.ndarray]:
        """User and movie indices, int32, of every rating in these splits."""
        table = pa.concat_tables([read_split(self.folder, part, [USER_INDEX, MOVIE_INDEX]) for part in parts])
        return table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy()
