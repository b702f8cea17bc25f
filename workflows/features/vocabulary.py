"""The ids of users and movies in the order of their indices, and the constants that indices obey."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        known = np.arange(len(self.ids)) < self.in_vocabulary
        index = np.arange(FIRST_INDEX, self.rows, dtype=np.int32)
        rated = np.arange(len(self.ids)) < self.rated
        return pd.DataFrame({name: self.ids, "index": index, "ratings": self.counts, "known": known, "rated": rated})
