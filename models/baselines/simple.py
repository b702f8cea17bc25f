"""What a model must beat: popularity, and the biases of users and movies; and on made-up data what none can beat."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, USER_ID
from models.data.features import Features, Interactions
from workflows.features.vocabulary import FIRST_INDEX


class Popularity:
    """Scores a movie by its number of training ratings, the same for every user."""

    is_probability = False

    def __init__(self, train: Interactions, users: int, movies: int):
        self.counts = np.bincount(train.movie.numpy(), minlength=movies).astype(np.float32)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        return self.counts[movie]


class Biases:
    """Mean label + movie bias + user bias, each bias a mean residual shrunk as if `shrinkage` more had been zero.

    Koren, "Factor in the Neighbors", 2010, section 2.1, on labels instead of stars. The answer is clipped to (0, 1).
    """

    is_probability = True

    def __init__(self, train: Interactions, users: int, movies: int, shrinkage: float = 5.0):
        self.mean, self.movie, self.user = biases_of(train, users, movies, shrinkage)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], probabilities, of int64 [n] indices."""
        return np.clip(self.mean + self.movie[movie] + self.user[user], 0.001, 0.999).astype(np.float32)


class Truth:
    """The model that a made-up dataset was drawn from: the best that any model can reach on the same questions."""

    def __init__(self, tables: Path, features: Features):
        """
        Args:
            tables: the folder that `fetch` has put the truth into.
        """
        self.is_probability = features.protocol == "random-split"
        from workflows.synthetic.truth import (
            load_truth,
        )  # what it imports takes seconds, and most runs are not synthetic

        truth = load_truth(tables)
        self._score = truth.like if self.is_probability else truth.watch
        self._users, self._movies = (
            pq.read_table(features.folder / "vocabulary" / f"{name}.parquet")[name].to_numpy()
            for name in (USER_ID, MOVIE_ID)
        )

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        return self._score(self._users[user - FIRST_INDEX], self._movies[movie - FIRST_INDEX]).astype(np.float32)


def biases_of(train: Interactions, users: int, movies: int, shrinkage: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean label, then the shrunk mean residuals of movies, float64 [movies], and then of users, float64 [users]."""
    user, movie, label = train.user.numpy(), train.movie.numpy(), train.label.numpy().astype(np.float64)
    mean = float(label.mean())
    of_movie = shrunk_mean(movie, label - mean, movies, shrinkage)
    return mean, of_movie, shrunk_mean(user, label - mean - of_movie[movie], users, shrinkage)


def shrunk_mean(index: np.ndarray, value: np.ndarray, rows: int, shrinkage: float) -> np.ndarray:
    """Each row's mean value, float64 [rows], shrunk as if it had `shrinkage` more that are 0."""
    return np.bincount(index, value, rows) / (np.bincount(index, minlength=rows) + shrinkage)
