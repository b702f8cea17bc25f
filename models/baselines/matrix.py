"""Matrices that several baselines use: who rated what, and factors of users and movies."""

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from models.baselines.base import TrainingData

PAIRS_AT_ONCE = 1 << 16  # whose factors are gathered


def rated_matrix(data: TrainingData) -> csr_matrix:
    """CSR float32 [users, movies]: 1 for each pair that has a rating."""
    user, movie = data.rows.user.numpy(), data.rows.movie.numpy()
    matrix = csr_matrix((np.ones(len(user), np.float32), (user, movie)), shape=(data.users, data.movies))
    matrix.data[:] = 1  # a pair that comes twice has been added up
    return matrix


def dot_products(users: np.ndarray, movies: np.ndarray, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    """The dot products of users' and movies' factors, [n], the same in any batch.

    Args:
        users, movies: float [users, factors], [movies, factors].
        user, movie: int64 [n], indices.
    """
    product = np.empty(len(user), np.result_type(users, movies))
    for first in range(0, len(user), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        # Not a matrix product, whose rounding changes with its shape.
        product[part] = (users[user[part]] * movies[movie[part]]).sum(axis=1)
    return product
