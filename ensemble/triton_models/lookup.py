"""Raw MovieLens ids to indices."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .files import vocabulary_file


class Lookup:
    """A vocabulary.

    Attributes:
        ids: int64 [n], the raw ids in the order of their indices.
        index: int64 [n], the index of each of `ids`.
        ratings: int64 [n], how often each of `ids` was rated in training.
        unknown: the index of every id that is not in the vocabulary's file.
    """

    def __init__(self, folder: Path, name: str, unknown: int):
        """
        Args:
            folder: where the vocabulary's file is.
            name: `user_id` or `movie_id`.
        """
        columns = pq.read_table(folder / vocabulary_file(name))
        self.ids = columns[name].to_numpy()
        self.index = columns["index"].to_numpy().astype(np.int64)
        self.ratings = columns["ratings"].to_numpy()
        self.unknown = unknown
        order = np.argsort(self.ids, kind="stable")
        self._sorted_ids = self.ids[order]
        self._sorted_index = self.index[order]
        self._sorted_known = columns["known"].to_numpy()[order]

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices, int64 [n], and whether each id is in the vocabulary, bool [n]; an unknown id gets `unknown`."""
        place = np.minimum(np.searchsorted(self._sorted_ids, ids), len(self._sorted_ids) - 1)
        found = self._sorted_ids[place] == ids
        return np.where(found, self._sorted_index[place], self.unknown), found & self._sorted_known[place]
