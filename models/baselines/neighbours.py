"""Strong baselines of leave-one-out without gradient descent: item-kNN, EASE and ALS, on who rated what.

Stars and labels do not matter: every training rating is a 1, everything else a 0. Users and movies without training
ratings score 0, and the score of a pair is the same, bit for bit, in whatever batch it is asked.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from implicit.cpu.als import AlternatingLeastSquares  # type: ignore[import-untyped]
from implicit.nearest_neighbours import (  # type: ignore[import-untyped]
    BM25Recommender,
    CosineRecommender,
    TFIDFRecommender,
)
from implicit.utils import ParameterWarning  # type: ignore[import-untyped]
from scipy.linalg import inv  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix, issparse  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.errors import UserError
from models.data.features import Interactions

MOST_MOVIES = 20_000  # that EASE takes: its float64 [movies, movies] has 3.2 GB then
USERS_AT_ONCE = 512
CELLS_AT_ONCE = 1 << 24  # of a dense block of scores
PAIRS_AT_ONCE = 1 << 16  # whose factors are gathered


@dataclass(frozen=True)
class KnnSettings:
    """Of `ItemKnn`.

    Attributes:
        neighbours: how many similarities are kept for a movie, the one with itself included.
        weighting: "cosine", "tfidf" or "bm25".
        k1, b: of BM25 only: how soon weights saturate, and how much popular movies are held back (0 to 1).
    """

    neighbours: int = 100
    weighting: str = "bm25"
    k1: float = 1.2
    b: float = 1.0


@dataclass(frozen=True)
class AlsSettings:
    """Of `Als`: `alpha` is the confidence in a rating, where a missing one has 1."""

    factors: int = 64
    regularization: float = 30.0
    alpha: float = 5.0
    iterations: int = 15


@dataclass(frozen=True)
class EaseSettings:
    """Of `Ease`: `l2` is the weight of the squared weights."""

    l2: float = 1000.0


class _Neighbourhood:
    """Scores a movie by its weights from the movies that the user has rated: `(ratings @ weights)[user, movie]`.

    Attributes:
        ratings: CSR float32 [users, columns], ones.
        weights: [columns, columns], CSR or dense, row = rated movie, column = scored movie.
        column: int64 [movies], the column of a movie, -1 for none.
    """

    is_probability = False
    ratings: csr_matrix
    weights: Any
    column: np.ndarray

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        score = np.zeros(len(user), np.float32)
        column = self.column[movie]
        asked = np.flatnonzero(column >= 0)
        asked = asked[np.argsort(user[asked], kind="stable")]
        # A user's row is computed once, for all the pairs that ask for it.
        people, row = np.unique(user[asked], return_inverse=True)
        at_once = max(1, min(USERS_AT_ONCE, CELLS_AT_ONCE // max(1, self.weights.shape[1])))
        for first in range(0, len(people), at_once):
            begin, end = np.searchsorted(row, [first, first + at_once])
            rows = self.ratings[people[first : first + at_once]] @ self.weights
            part = asked[begin:end]
            rows = rows.toarray() if issparse(rows) else rows
            score[part] = rows[row[begin:end] - first, column[part]]
        return score


class ItemKnn(_Neighbourhood):
    """Scores a movie by the sum of its similarities to the movies that the user has rated.

    Sarwar et al., "Item-Based Collaborative Filtering Recommendation Algorithms", 2001, by `implicit`: two movies are
    similar where the same users rated both, the more so the fewer movies these users rated ("tfidf" and "bm25";
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009). As in `implicit`, a rated
    movie counts for those that are among its own nearest.
    """

    def __init__(self, train: Interactions, users: int, movies: int, settings: KnnSettings, seed: int = 42):
        threads = torch.get_num_threads()
        if settings.weighting == "bm25":
            model = BM25Recommender(settings.neighbours, settings.k1, settings.b, num_threads=threads)
        else:
            kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender}
            model = kinds[settings.weighting](settings.neighbours, num_threads=threads)
        # With the reserved movies no user has rated all but one, whose inverse frequency would be the logarithm of 1.
        self.ratings = rated(train, users, movies)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # of the matrix that `implicit` itself makes on the way
            model.fit(self.ratings, show_progress=False)
        self.weights = model.similarity
        self.column = np.arange(movies)


class Ease(_Neighbourhood):
    """Scores movies by the linear model without self-weights that best restores the ratings, in closed form.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019: with P = (X'X + l2 I)^-1, the weight of rated
    movie i for movie j is -P_ij / P_jj, and 0 for i = j. Only movies with a training rating take part.

    Raises:
        UserError: there are more than `MOST_MOVIES` of these.
    """

    def __init__(self, train: Interactions, users: int, movies: int, settings: EaseSettings, seed: int = 42):
        everything = rated(train, users, movies)
        taken = np.unique(everything.indices)
        if len(taken) > MOST_MOVIES:
            raise UserError(
                f"EASE: {len(taken):,} rated movies, at most {MOST_MOVIES:,} (memory grows as their square): "
                "leave EASE out or take a smaller dataset"
            )
        self.ratings = everything[:, taken]
        self.column = np.full(movies, -1)
        self.column[taken] = np.arange(len(taken))
        gram = np.empty((len(taken), len(taken)))
        by_movie = self.ratings.T.tocsr()
        for first in range(0, len(taken), USERS_AT_ONCE):  # the sparse product as a whole is larger than the dense one
            part = slice(first, first + USERS_AT_ONCE)
            gram[part] = (by_movie[part] @ self.ratings).toarray()
        gram[np.diag_indices_from(gram)] += settings.l2
        # The transpose of a symmetric matrix is itself, in the order in which LAPACK works in place.
        inverse = inv(gram.T, overwrite_a=True, check_finite=False).T
        inverse /= -np.diag(inverse)
        np.fill_diagonal(inverse, 0)
        self.weights = np.ascontiguousarray(inverse, np.float32)


class Als:
    """Scores a pair by the dot product of its factors, fitted by alternating least squares.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, by `implicit`.

    Attributes:
        users, movies: float32 [users, factors], [movies, factors]; rows without ratings are 0.
    """

    is_probability = False

    def __init__(self, train: Interactions, users: int, movies: int, settings: AlsSettings, seed: int = 42):
        # `implicit` has threads of its own, which BLAS's would slow down; it warns where it sees them.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                settings.factors,
                settings.regularization,
                settings.alpha,
                iterations=settings.iterations,
                num_threads=torch.get_num_threads(),
                random_state=seed,
            )
            model.fit(rated(train, users, movies), show_progress=False)
        self.users, self.movies = model.user_factors, model.item_factors

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        score = np.empty(len(user), np.float32)
        for first in range(0, len(user), PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            # Not a matrix product, whose rounding changes with its shape.
            score[part] = (self.users[user[part]] * self.movies[movie[part]]).sum(axis=1)
        return score


def rated(train: Interactions, users: int, movies: int) -> csr_matrix:
    """CSR float32 [users, movies]: 1 for each pair that has a rating."""
    user, movie = train.user.numpy(), train.movie.numpy()
    matrix = csr_matrix((np.ones(len(user), np.float32), (user, movie)), shape=(users, movies))
    matrix.data[:] = 1  # a pair that comes twice has been added up
    return matrix
