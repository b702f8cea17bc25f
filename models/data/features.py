"""A protocol's features, from Parquet to tensors, by merlin-dataloader."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from merlin.dataloader.torch import Loader
from merlin.io import Dataset
from merlin.schema import Schema
from torch import Tensor

from core.artifacts import verify
from core.columns import (
    FOLD,
    LABEL,
    LATER,
    MOVIE_ID,
    MOVIE_INDEX,
    NEGATIVES,
    RATING,
    USER_ID,
    USER_INDEX,
)
from core.json_files import read_json
from core.run_folder import RATING_PROTOCOL, Run
from workflows.features.schema import load_schema
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.splits.base import read_split, split_files

READ_ROWS = 1 << 18


@dataclass(frozen=True)
class SideTables:
    """What belongs to a movie or to a user, once, to be gathered by index.

    Attributes:
        user_details: int64 [users, details], Categorify's codes; no columns where the dataset has no details.
        user_statistics: float32 [FOLDS + 1, users, 3], or None where a model must not see them.
        movie_features: float32 [movies, genres + 1].
        movie_statistics: float32 [FOLDS + 1, movies, 3].
        detail_names: the columns of `user_details`.
    """

    user_details: Tensor
    user_statistics: Tensor | None
    movie_features: Tensor
    movie_statistics: Tensor
    detail_names: tuple[str, ...]


@dataclass(frozen=True)
class Interactions:
    """Rows of a split as index tensors, as narrow as they go: there are up to 32 million of them.

    Attributes:
        user, movie: int32 [n], indices.
        label: float32 [n], 0 or 1; in the protocol `rating` the stars.
        fold: int8 [n], the fold whose statistics leave this row out.
        later: int32 [n], how many ratings, of any split, the user gave after this one: the order of time.
        stars: float32 [n].
    """

    user: Tensor
    movie: Tensor
    label: Tensor
    fold: Tensor
    later: Tensor
    stars: Tensor

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device) -> "Interactions":
        return Interactions(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Candidates:
    """Leave-one-out's questions: `user`, `positive` int32 [n], `negatives` int32 [n, 99], -1 where there are fewer."""

    user: np.ndarray
    positive: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True)
class Features:
    """What a protocol's folder holds, loaded but for the interactions.

    Attributes:
        user_embeddings, movie_embeddings: rows of the embedding tables; an index from there on is out of vocabulary.
        users, movies: rows of the side tables, the reserved indices included.
        rated_movies: how many movies, from `FIRST_INDEX` on, have a rating in any split: the catalogue.
        fingerprint: of everything that the features were made from.
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

    @property
    def catalogue(self) -> np.ndarray:
        """The indices of the movies that are ranked, int64 [rated_movies]."""
        return np.arange(FIRST_INDEX, FIRST_INDEX + self.rated_movies)

    def interactions(self, part: str) -> Interactions:
        """One split (`train`, `valid`, `test`), read by merlin-dataloader into index tensors."""
        dataset = Dataset([str(path) for path in split_files(self.folder, part)], engine="parquet")
        names = (USER_INDEX, MOVIE_INDEX, FOLD, LATER, RATING, LABEL)
        dataset.schema = Schema([dataset.schema[name] for name in names])
        types = (torch.int32, torch.int32, torch.float32, torch.int8, torch.int32, torch.float32)
        columns = [torch.empty(dataset.num_rows, dtype=dtype) for dtype in types]
        start = 0
        for inputs, label in Loader(dataset, READ_ROWS, shuffle=False):
            user, movie, fold, later, stars = (inputs[name] for name in names[:-1])
            for column, chunk in zip(columns, (user, movie, label, fold, later, stars)):
                column[start : start + len(chunk)] = chunk.reshape(-1)
            start += len(label)
        rows = Interactions(*columns)
        return replace(rows, label=rows.stars) if self.protocol == RATING_PROTOCOL else rows

    def candidates(self, part: str) -> Candidates:
        """Leave-one-out's questions of `valid` or `test`."""
        table = pq.read_table(self.folder / f"candidates-{part}.parquet")
        negatives = table[NEGATIVES].combine_chunks().flatten().to_numpy()
        return Candidates(
            table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy(), negatives.reshape(len(table), -1)
        )

    def seen(self, *parts: str) -> tuple[np.ndarray, np.ndarray]:
        """User and movie indices, int32, of every rating in these splits."""
        table = pa.concat_tables([read_split(self.folder, part, [USER_INDEX, MOVIE_INDEX]) for part in parts])
        return table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy()


def load_features(run: Run, protocol: str) -> Features:
    """Loads what `prepare` wrote, after checking it against its manifest.

    Raises:
        UserError: the folder is missing or has changed.
    """
    folder = run.features_of(protocol)
    manifest = verify(folder, run.command("prepare"))
    facts = read_json(folder / "features.json")
    schema = load_schema(folder)
    side = {path.stem: pd.read_parquet(path) for path in (folder / "side").glob("*.parquet")}
    details = tuple(name for name in side["user_features"].columns if name != USER_INDEX)

    def statistics(kind: str, index: str) -> Tensor:
        table = side[f"{kind}_statistics"].drop(columns=[FOLD, index])
        return torch.from_numpy(table.to_numpy(np.float32).reshape(FOLDS + 1, -1, table.shape[1]))

    tables = SideTables(
        torch.from_numpy(side["user_features"][list(details)].to_numpy(np.int64)),
        statistics("user", USER_INDEX),
        torch.from_numpy(side["movie_features"].drop(columns=[MOVIE_INDEX]).to_numpy(np.float32)),
        statistics("movie", MOVIE_INDEX),
        details,
    )
    user, movie = facts[USER_ID], facts[MOVIE_ID]
    return Features(
        protocol,
        manifest["dataset"],
        folder,
        schema,
        tables,
        user["embeddings"],
        movie["embeddings"],
        user["rows"],
        movie["rows"],
        movie["rated"],
        manifest["fingerprint"],
    )
