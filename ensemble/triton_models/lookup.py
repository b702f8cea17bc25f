"""Raw ids, MovieLens' whole numbers or a table's own text, to indices."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .files import vocabulary_file


class Lookup:
    """A vocabulary.

    Attributes:
        ids: int64 [n], or text as object [n] of bytes, the raw ids in the order of their indices.
        nobody: an id that none of them is.
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
        self.is_text = not pa.types.is_integer(columns[name].type)
        self.ids = _bytes(columns[name].to_pylist()) if self.is_text else columns[name].to_numpy()
        self.nobody: int | bytes = b"" if self.is_text else _unused(self.ids)
        self.index = columns["index"].to_numpy().astype(np.int64)
        self.ratings = columns["ratings"].to_numpy()
        self.unknown = unknown
        # Numbers are searched for in their order; text in a dictionary, in the order of the file.
        order = np.arange(len(self.ids)) if self.is_text else np.argsort(self.ids, kind="stable")
        self._ids, self._index, self._known = self.ids[order], self.index[order], columns["known"].to_numpy()[order]
        self._place = {one: place for place, one in enumerate(self.ids)} if self.is_text else {}

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices, int64 [n], and whether each id is in the vocabulary, bool [n]; an unknown id gets `unknown`.

        Args:
            ids: [n], of the type of `ids`.
        """
        if self.is_text:
            place = np.fromiter((self._place.get(one, -1) for one in ids), np.int64, len(ids))
            found = place >= 0
        else:
            place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
            found = self._ids[place] == ids
        return np.where(found, self._index[place], self.unknown), found & self._known[place]

    def index_of(self, one: int | bytes) -> int:
        """The index of one id; `unknown` for one that is not there."""
        ids = np.empty(1, object if self.is_text else np.int64)
        ids[0] = one
        return int(self(ids)[0][0])


def _bytes(texts: list[str]) -> np.ndarray:
    """object [n]; NumPy's own texts would all be as long as the longest."""
    found = np.empty(len(texts), object)
    found[:] = [text.encode() for text in texts]
    return found


def _unused(ids: np.ndarray) -> int:
    """The first whole number below 0 that is no id."""
    below = set(ids[ids < 0].tolist())
    return next(one for one in range(-1, -2 - len(below), -1) if one not in below)
