"""A movie's genres, one column for each: 1 where the movie has the genre, else 0."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.columns import GENRES
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature
from workflows.features.vocabulary import FIRST_INDEX


class Genres(MovieFeature):
    """Columns `genre_<name>`, in the order of their names."""

    source = (GENRES,)
    weight = 1.0
    unit = True

    def graph(self, movies: pd.DataFrame, scratch: Path) -> Any:
        """None where no movie has a genre: Categorify cannot find the type of nothing but empty lists."""
        from nvtabular import ops

        if not movies[GENRES].map(len).any():
            return None
        return [GENRES] >> ops.Categorify(out_path=str(scratch))

    def values(self, result: pd.DataFrame, scratch: Path) -> pd.DataFrame:
        found = pd.read_parquet(scratch / "categories" / f"unique.{GENRES}.parquet")[GENRES]
        codes = np.concatenate([np.asarray(row, np.int64) for row in result[GENRES]])
        rows = np.repeat(np.arange(len(result)), [len(row) for row in result[GENRES]])
        hot = np.zeros((len(result), FIRST_INDEX + len(found)), np.float32)
        hot[rows, codes] = 1
        order = np.argsort(found.to_numpy(str))  # by name: Categorify's order of ties is not the same on every device
        return pd.DataFrame(hot[:, FIRST_INDEX + order], columns=[f"genre_{found.iloc[i]}" for i in order])


SIDE_FEATURES.add("genres", Genres(), position=10)
