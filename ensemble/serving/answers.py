"""Answers from an exported folder: lookup tables in Parquet, networks in ONNX.

The whole serving logic, without Triton, so that it can be tested and read alone. `export` copies this file next to each
model's `model.py`; it imports numpy, pyarrow and ONNX Runtime, nothing of training, and unpickles nothing.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

ROWS_AT_ONCE = 1 << 16
LARGEST_K = 1000
DEFAULT_K = 10


class BadRequest(Exception):
    """The client's mistake, in one sentence."""


class Lookup:
    """Raw MovieLens ids to indices."""

    def __init__(self, path: Path, name: str, unknown: int):
        table = pq.read_table(path)
        ids = table[name].to_numpy()
        order = np.argsort(ids, kind="stable")
        self.ids = ids  # in the order of their indices
        self.index = table["index"].to_numpy().astype(np.int64)
        self.sorted_ids, self.sorted_index = ids[order], self.index[order]
        self.sorted_known = table["known"].to_numpy(zero_copy_only=False)[order]
        self.unknown = unknown

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices, int64 [n], and whether each id is in the vocabulary, bool [n]; an unknown id gets `unknown`."""
        place = np.minimum(np.searchsorted(self.sorted_ids, ids), len(self.sorted_ids) - 1)
        there = self.sorted_ids[place] == ids
        return np.where(there, self.sorted_index[place], self.unknown), there & self.sorted_known[place]


class Answers:
    """What the two Triton models answer, from the files of an exported version folder."""

    def __init__(self, folder: Path):
        facts = json.loads((folder / "serving.json").read_text())
        self.default_model: str = facts["default_model"]
        self.users = Lookup(folder / "user_id.parquet", "user_id", facts["unknown_index"])
        self.movies = Lookup(folder / "movie_id.parquet", "movie_id", facts["unknown_index"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # one thread per instance: more fight for cores
        options.log_severity_level = 3
        self.networks = {
            path.stem: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in sorted(folder.glob("*.onnx"))
        }
        rated = folder / "rated.parquet"
        if rated.is_file():
            table = pq.read_table(rated)
            users = table["user_index"].to_numpy()  # ascending
            self.rated_movies = table["movie_index"].to_numpy().astype(np.int64)
            self.rated_starts = np.searchsorted(users, np.arange(self.users.index.max() + 2))

    def score(self, user_id: np.ndarray, movie_id: np.ndarray, model: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of pairs.

        Args:
            user_id, movie_id: int64 [n], raw MovieLens ids.
            model: `dlrm` or `ncf`; empty for the default.

        Returns:
            float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary.

        Raises:
            BadRequest: arrays of different lengths, or no such model.
        """
        if user_id.ndim != 1 or user_id.shape != movie_id.shape:
            raise BadRequest(
                f"user_id has shape {list(user_id.shape)} and movie_id {list(movie_id.shape)}; both must be [n]"
            )
        model = model or self.default_model
        if model not in self.networks:
            raise BadRequest(f"unknown model {model[:40]!r}; choose one of {', '.join(self.networks)}")
        user, user_known = self.users(user_id)
        movie, movie_known = self.movies(movie_id)
        return self._run(model, user, movie), user_known & movie_known

    def recommend(self, user_id: int, k: int = DEFAULT_K) -> tuple[np.ndarray, np.ndarray]:
        """The best `k` movies of the whole catalogue that the user has not rated, by the default model's score.

        Returns:
            int64 movie ids and float32 scores, best first, equal scores in the catalogue's order; fewer than `k` where
            the user has rated nearly everything.

        Raises:
            BadRequest: `k` outside 1 to 1000, or an unknown user.
        """
        if not 1 <= k <= LARGEST_K:
            raise BadRequest(f"k is {k}; it must be from 1 to {LARGEST_K}")
        user = int(self.users(np.array([user_id]))[0][0])
        if user == self.users.unknown:
            lowest, highest = self.users.sorted_ids[[0, -1]]
            raise BadRequest(f"user {user_id} is not in the data; its users go from {lowest} to {highest}")
        movies = self.movies.index
        open_to_user = np.ones(len(movies), bool)
        open_to_user[self.rated_movies[self.rated_starts[user] : self.rated_starts[user + 1]] - movies[0]] = False
        scores = self._run(self.default_model, np.full(len(movies), user), movies)
        best = np.argsort(np.where(open_to_user, -scores, np.inf), kind="stable")[: min(k, int(open_to_user.sum()))]
        return self.movies.ids[best], scores[best]

    def _run(self, model: str, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        parts = [
            self.networks[model].run(
                ["score"], {"user": user[start : start + ROWS_AT_ONCE], "movie": movie[start : start + ROWS_AT_ONCE]}
            )[0]
            for start in range(0, len(user), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)
