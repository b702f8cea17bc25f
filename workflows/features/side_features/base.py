"""What a side feature is: from columns of the movies or users table to columns that a model reads.

A feature is computed by an NVTabular workflow of its own, which is fitted on the whole table, saved, and loaded again
before it is applied. A dataset without the feature's source columns has no such feature.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from core.registry import Registry
from workflows.features.vocabulary import FIRST_INDEX, NULL


class MovieFeature(ABC):
    """A continuous feature of movies: float32 columns of `movie_features.parquet`.

    Attributes:
        source: the columns of the movies table that it is computed from.
        weight: how much it counts when `similar` compares movies; 0 where it plays no part.
        unit: whether `similar` scales each movie's values to length 1 first.
    """

    owner: ClassVar[Literal["movie"]] = "movie"
    kind: ClassVar[Literal["continuous"]] = "continuous"
    source: tuple[str, ...]
    weight: float = 0.0
    unit: bool = False

    @abstractmethod
    def graph(self, movies: pd.DataFrame, scratch: Path) -> Any:
        """The NVTabular graph, or None where the data has nothing for it.

        Args:
            movies: the source columns, a row per movie.
            scratch: a folder for what Categorify writes; it does not exist yet, and is removed after `prepare`.
        """

    @abstractmethod
    def values(self, result: pd.DataFrame, scratch: Path) -> pd.DataFrame:
        """The feature's columns, float32 [movies, columns], named as models and `features.json` know them.

        Args:
            result: what the workflow makes of `movies`, row by row.
            scratch: as in `graph`.
        """


class UserFeature(ABC):
    """A categorical feature of users, with an embedding of its own: a column of codes in `user_features.parquet`.

    The column has the name of the entry in `SIDE_FEATURES`.

    Attributes:
        source: the columns of the users table that it is computed from. Where the first is unknown, so is the feature.
    """

    owner: ClassVar[Literal["user"]] = "user"
    kind: ClassVar[Literal["categorical"]] = "categorical"
    source: tuple[str, ...]

    def graph(self, users: pd.DataFrame, scratch: Path) -> Any:
        """The NVTabular graph, or None where the data has nothing for it: Categorify's codes of `categories`.

        Args:
            users: the source columns, a row per user.
            scratch: a folder for what Categorify writes; it does not exist yet, and is removed after `prepare`.
        """
        from nvtabular import ops

        return self.categories() >> ops.Categorify(out_path=str(scratch))

    def categories(self) -> Any:
        """The part of the graph whose values are the categories; the first source column as it is."""
        return [self.source[0]]

    def codes(self, users: pd.DataFrame, result: pd.DataFrame, scratch: Path) -> tuple[np.ndarray, int]:
        """The code of each user, int32 [users], and how many codes there are, the reserved ones included.

        Args:
            users, scratch: as in `graph`.
            result: what the workflow makes of `users`, row by row.
        """
        name = self.source[0]
        known = pd.read_parquet(scratch / "categories" / f"unique.{name}.parquet")
        # An unknown value is looked for in the table, as Bucketize puts it into the highest group.
        codes = np.where(users[name].isna(), NULL, result[name]).astype(np.int32)
        return codes, FIRST_INDEX + len(known)


SIDE_FEATURES: Registry[MovieFeature | UserFeature] = Registry("side feature", "workflows.features.side_features")
