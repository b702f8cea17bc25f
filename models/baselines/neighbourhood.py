"""What EASE and item-kNN share: a score is a sum of weights between movies."""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse  # type: ignore[import-untyped]

USERS_AT_ONCE = 512
CELLS_AT_ONCE = 1 << 24  # of a dense block of scores


class Neighbourhood:
    """Scores a movie by its weights from the movies that the user has rated: `(ratings @ weights)[user, movie]`.

    Users and movies without training ratings score 0. The score of a pair is the same, bit for bit, in any batch.

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
