"""A network cut in three: a row for every user, rows for every movie, and the head that scores them."""

from pathlib import Path

import numpy as np

from .files import network_file, rows_file
from .loading import load_array, load_network

ROWS_AT_ONCE = 2048  # rows that a head scores at a time, so that what it computes stays in the processor's cache


class Network:
    """
    Attributes:
        user: float32 [users, user width], a row per user index.
        vector: float32 [movies, dim], a row per movie index.
        hidden: float32 [movies, width], a row per movie index.
        head: (`user`, `vector`, `hidden`) rows to float32 [n] probabilities.
    """

    def __init__(self, folder: Path, name: str):
        self.user = load_array(folder / rows_file(name, "user"))
        self.vector = load_array(folder / rows_file(name, "vector"))
        self.hidden = load_array(folder / rows_file(name, "hidden"))
        self.head = load_network(folder / network_file(name))

    def score_pairs(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [n], of int64 [n] user and movie indices."""
        scores = np.empty(len(user), np.float32)
        for start in range(0, len(user), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            movies = movie[part]
            inputs = {"user": self.user[user[part]], "vector": self.vector[movies], "hidden": self.hidden[movies]}
            scores[part] = self.head.run(None, inputs)[0]
        return scores

    def score_row(self, row: np.ndarray, vector: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [n], of one user's row, float32 [1, user width], with the rows of n movies."""
        scores = np.empty(len(vector), np.float32)
        for start in range(0, len(vector), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[part] = self.head.run(None, {"user": row, "vector": vector[part], "hidden": hidden[part]})[0]
        return scores
