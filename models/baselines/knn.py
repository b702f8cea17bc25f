"""k-NN with means: what the user gave to similar movies, or similar users to the movie."""

from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from core.errors import UserError
from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.biases import shrunk_mean
from models.baselines.stars import StarScorer, rating_columns
from models.search_space import Integer, Log, OneOf

MEAN_SHRINKAGE = 5.0  # of the means of `KnnMeans`
MOST_SIMILAR = 20_000  # rows of a matrix of similarities: 1.6 GB then
ROWS_AT_ONCE = 256
CELLS_AT_ONCE = 1 << 21
Entity = TypeVar("Entity", int, np.ndarray)


@dataclass(frozen=True, config=STRICT)
class KnnMeansSettings:
    """Settings of `KnnMeans`.

    Attributes:
        neighbours: how many rated movies (or users who rated the movie) a prediction is made from, at most.
        shrinkage: a similarity from n common ratings is multiplied by n / (n + shrinkage).
        by: "movie" for similar movies, "user" for similar users.
    """

    neighbours: Annotated[int, Field(gt=0)] = 20
    shrinkage: Annotated[float, Field(ge=0)] = 100.0
    by: Literal["movie", "user"] = "movie"


class KnnMeans(StarScorer):
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

    def __init__(self, data: TrainingData, settings: KnnMeansSettings, seed: int):
        super().__init__(data)
        self.settings = settings
        user, movie, stars = rating_columns(data)
        other, thing = self._looked_up_and_similar(user, movie)
        others, things = self._looked_up_and_similar(data.users, data.movies)
        if things > MOST_SIMILAR:
            raise UserError(
                f"kNN with means: {things:,} {settings.by}s, at most {MOST_SIMILAR:,} (memory grows as their square): "
                "leave it out or take a smaller dataset"
            )
        self.mean = stars.mean() + shrunk_mean(thing, stars - stars.mean(), things, MEAN_SHRINKAGE)
        deviation = (stars - self.mean[thing]).astype(np.float32)
        self.deviation = csr_matrix((deviation, (other, thing)), shape=(others, things))
        self.similarity = positive_pearson(self.deviation, settings.shrinkage)

    def _looked_up_and_similar(self, user: Entity, movie: Entity) -> tuple[Entity, Entity]:
        """Whose ratings are looked up, and which things are similar to each other."""
        return (user, movie) if self.settings.by == "movie" else (movie, user)

    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float64 [n], stars, not clipped yet."""
        other, thing = self._looked_up_and_similar(user, movie)
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


add(
    Baseline(
        name="knn",
        title="KNN with means",
        tasks=("rating",),
        fit=KnnMeans,
        settings=KnnMeansSettings,
        space={
            "neighbours": Integer(5, 200, log=True),
            "shrinkage": Log(1, 1000),
            "by": OneOf("movie", "user"),
        },
        position=40,
    )
)
