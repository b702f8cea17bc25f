"""Popularity: the most rated movies for everyone."""

import numpy as np

from models.baselines.base import Baseline, NoSettings, TrainingData, add


class Popularity:
    """Scores a movie by its number of training ratings, the same for every user."""

    is_probability = False

    def __init__(self, data: TrainingData, settings: NoSettings, seed: int):
        self.counts = np.bincount(data.rows.movie.numpy(), minlength=data.movies).astype(np.float32)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        return self.counts[movie]


add(
    Baseline(
        name="popularity",
        title="Popularity",
        tasks=("ranking", "classification"),
        fit=Popularity,
        is_cheap=True,
        position=70,
    )
)
