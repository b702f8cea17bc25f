"""Biases: the mean, and how far a movie's and a user's ratings are from it. For probabilities, and for stars."""

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.stars import StarScorer
from models.search_space import Log


@dataclass(frozen=True, config=STRICT)
class BiasSettings:
    """Settings of `Biases` and `StarBiases`.

    Attributes:
        shrinkage: a bias is shrunk as if there were so many more ratings without any.
    """

    shrinkage: Annotated[float, Field(gt=0)] = 5.0


class Biases:
    """Mean label + movie bias + user bias, each bias a mean residual shrunk as if `shrinkage` more had been zero.

    Koren, "Factor in the Neighbors", 2010, section 2.1, on labels instead of stars. The answer is clipped to (0, 1).
    """

    is_probability = True

    def __init__(self, data: TrainingData, settings: BiasSettings, seed: int):
        self.mean, self.movie, self.user = biases_of(data, settings.shrinkage)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], probabilities, of int64 [n] indices."""
        return np.clip(self.mean + self.movie[movie] + self.user[user], 0.001, 0.999).astype(np.float32)


class StarBiases(StarScorer):
    """Mean + movie bias + user bias (Koren, "Factor in the Neighbors", 2010, section 2.1)."""

    def __init__(self, data: TrainingData, settings: BiasSettings, seed: int):
        super().__init__(data)
        self.mean, self.movie, self.user = biases_of(data, settings.shrinkage)

    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float64 [n], stars, not clipped yet."""
        return self.mean + self.movie[movie] + self.user[user]


def biases_of(data: TrainingData, shrinkage: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean label, then the shrunk mean residuals of movies, float64 [movies], and then of users, float64 [users]."""
    user, movie, label = data.rows.user.numpy(), data.rows.movie.numpy(), data.rows.label.numpy().astype(np.float64)
    mean = float(label.mean())
    of_movie = shrunk_mean(movie, label - mean, data.movies, shrinkage)
    return mean, of_movie, shrunk_mean(user, label - mean - of_movie[movie], data.users, shrinkage)


def shrunk_mean(index: np.ndarray, value: np.ndarray, rows: int, shrinkage: float) -> np.ndarray:
    """Each row's mean value, float64 [rows], shrunk as if it had `shrinkage` more that are 0."""
    return np.bincount(index, value, rows) / (np.bincount(index, minlength=rows) + shrinkage)


add(
    Baseline(
        name="biases",
        title="Biases",
        tasks=("classification",),
        fit=Biases,
        settings=BiasSettings,
        is_cheap=True,
        position=60,
    )
)
add(
    Baseline(
        name="biases",
        title="Biases",
        tasks=("rating",),
        fit=StarBiases,
        settings=BiasSettings,
        space={"shrinkage": Log(0.5, 50)},
        is_cheap=True,
        position=60,
    )
)
