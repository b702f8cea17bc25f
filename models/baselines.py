"""What a model must beat: popularity, and the biases of users and movies."""

import numpy as np

from models.data import Interactions


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
        user, movie, label = train.user.numpy(), train.movie.numpy(), train.label.numpy().astype(np.float64)
        self.mean = label.mean()
        self.movie = _shrunk_mean(movie, label - self.mean, movies, shrinkage)
        self.user = _shrunk_mean(user, label - self.mean - self.movie[movie], users, shrinkage)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], probabilities, of int64 [n] indices."""
        return np.clip(self.mean + self.movie[movie] + self.user[user], 0.001, 0.999).astype(np.float32)


def _shrunk_mean(index: np.ndarray, value: np.ndarray, rows: int, shrinkage: float) -> np.ndarray:
    return np.bincount(index, value, rows) / (np.bincount(index, minlength=rows) + shrinkage)
