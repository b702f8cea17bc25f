"""Baselines of the random split that predict stars: biases, k nearest neighbours with means, and an SVD.

On scipy and scikit-learn. scikit-surprise has such models too, but its wheel asks for numpy >= 1.24, which the Merlin
stack's numpy 1.23.5 excludes. The training rows are `Interactions` whose `label` is the stars; a pair comes once.
Every prediction is clipped to the range of the training stars, and is the same, bit for bit, in whatever batch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.decomposition import TruncatedSVD

from core.errors import UserError
from models.baselines.simple import biases_of, shrunk_mean
from models.data.features import Interactions

MEAN_SHRINKAGE = 5.0  # of the means of `KnnMeans`
MOST_SIMILAR = 20_000  # rows of a matrix of similarities: 1.6 GB then
ROWS_AT_ONCE = 256
CELLS_AT_ONCE = 1 << 21
PAIRS_AT_ONCE = 1 << 16
Side = TypeVar("Side", int, np.ndarray)


@dataclass(frozen=True)
class BiasSettings:
    """Of `StarBiases`: how many more ratings without a bias everyone is taken to have."""

    shrinkage: float = 5.0


@dataclass(frozen=True)
class KnnMeansSettings:
    """Of `KnnMeans`.

    Attributes:
        neighbours: how many rated movies (or users who rated the movie) a prediction is made from, at most.
        shrinkage: a similarity from n common ratings is multiplied by n / (n + shrinkage).
        by: "movie" for similar movies, "user" for similar users.
    """

    neighbours: int = 20
    shrinkage: float = 100.0
    by: str = "movie"


@dataclass(frozen=True)
class SvdSettings:
    """Of `Svd`: `shrinkage` is that of the biases, `scale` multiplies what the factors add to them."""

    factors: int = 12
    shrinkage: float = 5.0
    scale: float = 2.0


class _Stars(ABC):
    """A prediction within the range of the training stars."""

    is_probability = False

    def __init__(self, train: Interactions):
        self.low, self.high = float(train.label.min()), float(train.label.max())

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], stars, of int64 [n] indices."""
        return np.clip(self._predict(user, movie), self.low, self.high).astype(np.float32)

    @abstractmethod
    def _predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float [n], stars, not clipped yet."""


class StarBiases(_Stars):
    """Mean + movie bias + user bias (Koren, "Factor in the Neighbors", 2010, section 2.1)."""

    def __init__(self, train: Interactions, users: int, movies: int, settings: BiasSettings, seed: int = 42):
        super().__init__(train)
        self.mean, self.movie, self.user = biases_of(train, users, movies, settings.shrinkage)

    def _predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        return self.mean + self.movie[movie] + self.user[user]


class Svd(StarBiases):
    """Biases + the truncated SVD of what they leave of the ratings, where a missing rating leaves 0.

    As PureSVD (Cremonesi et al., "Performance of Recommender Algorithms on Top-N Recommendation Tasks", 2010), but on
    residuals.
    """

    def __init__(self, train: Interactions, users: int, movies: int, settings: SvdSettings, seed: int = 42):
        super().__init__(train, users, movies, BiasSettings(settings.shrinkage), seed)
        user, movie, stars = _columns(train)
        left = csr_matrix((stars - super()._predict(user, movie), (user, movie)), shape=(users, movies))
        svd = TruncatedSVD(min(settings.factors, users, movies), random_state=seed)
        with np.errstate(invalid="ignore"):  # the share of the variance that is explained, where there is none
            self.user_factors = settings.scale * svd.fit_transform(left)
        self.movie_factors = np.ascontiguousarray(svd.components_.T)

    def _predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        stars = super()._predict(user, movie)
        for first in range(0, len(user), PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            stars[part] += (self.user_factors[user[part]] * self.movie_factors[movie[part]]).sum(axis=1)
        return stars


class KnnMeans(_Stars):
    """The movie's mean + the weighted mean deviation of the user's stars for the movies that are most similar to it.

    Koren, 2010, section 2.2, with means for baselines, as surprise's `KNNWithMeans`: similarities are shrunk Pearson
    correlations, of which only the positive ones count. By "user" it is the user's mean and the deviations of similar
    users' stars for the same movie: users and movies swap their parts. What has no neighbours gets its mean.

    Attributes:
        mean: float64 [things], of the movies (or users), shrunk to the mean of all ratings.
        deviation: CSR float32 [others, things], of what user (or movie) gave what movie (or user).
        similarity: float32 [things, things], at least 0; 0 with itself.

    Raises:
        UserError: there are more than `MOST_SIMILAR` movies (or users).
    """

    def __init__(self, train: Interactions, users: int, movies: int, settings: KnnMeansSettings, seed: int = 42):
        super().__init__(train)
        if settings.by not in ("movie", "user"):
            raise ValueError(f"by {settings.by}: it must be movie or user")
        self.settings = settings
        user, movie, stars = _columns(train)
        (other, thing), (others, things) = self._sides(user, movie), self._sides(users, movies)
        if things > MOST_SIMILAR:
            raise UserError(
                f"kNN with means: {things:,} {settings.by}s, at most {MOST_SIMILAR:,} (memory grows as their square): "
                "leave it out or take a smaller dataset"
            )
        self.mean = stars.mean() + shrunk_mean(thing, stars - stars.mean(), things, MEAN_SHRINKAGE)
        deviation = (stars - self.mean[thing]).astype(np.float32)
        self.deviation = csr_matrix((deviation, (other, thing)), shape=(others, things))
        self.similarity = positive_pearson(self.deviation, settings.shrinkage)

    def _sides(self, user: Side, movie: Side) -> tuple[Side, Side]:
        """Whose ratings are looked up, and what is similar."""
        return (user, movie) if self.settings.by == "movie" else (movie, user)

    def _predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        other, thing = self._sides(user, movie)
        stars = self.mean[thing]
        order = np.argsort(other, kind="stable")
        asked, start = np.unique(other[order], return_index=True)
        for who, rows in zip(asked, np.split(order, start[1:])):
            ratings = slice(*self.deviation.indptr[who : who + 2])
            rated, deviation = self.deviation.indices[ratings], self.deviation.data[ratings]
            at_once = max(1, CELLS_AT_ONCE // max(1, len(rated)))
            for first in range(0, len(rows) if len(rated) else 0, at_once):
                part = rows[first : first + at_once]
                stars[part] += self._mean_deviation(thing[part], rated, deviation)
        return stars

    def _mean_deviation(self, thing: np.ndarray, rated: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """float32 [n] for each of [n] things, from one row of `self.deviation`, [r] and [r]."""
        weight = self.similarity[thing[:, None], rated]
        deviation = np.broadcast_to(deviation, weight.shape)
        if weight.shape[1] > self.settings.neighbours:
            nearest = np.argpartition(weight, -self.settings.neighbours, axis=1)[:, -self.settings.neighbours :]
            weight = np.take_along_axis(weight, nearest, axis=1)
            deviation = np.take_along_axis(deviation, nearest, axis=1)
        total = weight.sum(axis=1)
        return (weight * deviation).sum(axis=1) / np.where(total > 0, total, 1)


def positive_pearson(deviation: csr_matrix, shrinkage: float) -> np.ndarray:
    """Correlations of columns over the rows that they share, shrunk, the negative ones and those with itself 0.

    Args:
        deviation: CSR float32 [rows, n], from the columns' means; one that is 0 must be stored nevertheless.
        shrinkage: see `KnnMeansSettings`.

    Returns:
        float32 [n, n].
    """
    there, square = deviation.copy(), deviation.copy()
    there.data, square.data = np.ones_like(there.data), square.data**2
    columns = [matrix.T.tocsr() for matrix in (deviation, there, square)]
    similarity = np.empty((deviation.shape[1], deviation.shape[1]), np.float32)
    for first in range(0, len(similarity), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        deviation_of, there_of, square_of = (column[part] for column in columns)
        common = (there_of @ there).toarray()
        # Each one's variance, over the shared rows only.
        norm = np.sqrt((square_of @ there).toarray() * (there_of @ square).toarray()) * (common + shrinkage)
        product = (deviation_of @ deviation).toarray() * common
        similarity[part] = np.divide(product, norm, out=np.zeros_like(norm), where=(product > 0) & (norm > 0))
    np.fill_diagonal(similarity, 0)
    return similarity


def _columns(train: Interactions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return train.user.numpy(), train.movie.numpy(), train.label.numpy().astype(np.float64)
