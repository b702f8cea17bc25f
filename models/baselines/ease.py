"""EASE: a linear model of who rated what, in closed form."""

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.linalg import inv  # type: ignore[import-untyped]

from core.errors import UserError
from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.matrix import rated_matrix
from models.baselines.neighbourhood import Neighbourhood
from models.search_space import Log

MOST_MOVIES = 20_000  # their float64 [movies, movies] takes 3.2 GB
MOVIES_AT_ONCE = 512  # rows of the Gram matrix that are computed together


@dataclass(frozen=True, config=STRICT)
class EaseSettings:
    """Settings of `Ease`.

    Attributes:
        l2: the weight of the penalty on squared weights.
    """

    l2: Annotated[float, Field(gt=0)] = 1000.0


class Ease(Neighbourhood):
    """Scores movies by the linear model without self-weights that best restores the ratings, in closed form.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019: with P = (X'X + l2 I)^-1, the weight of rated
    movie i for movie j is -P_ij / P_jj, and 0 for i = j. Only movies with a training rating take part. Stars and labels
    do not matter: every training rating is a 1, everything else a 0.

    Raises:
        UserError: there are more than `MOST_MOVIES` movies with a rating.
    """

    def __init__(self, data: TrainingData, settings: EaseSettings, seed: int):
        everything = rated_matrix(data)
        taken = np.unique(everything.indices)
        if len(taken) > MOST_MOVIES:
            raise UserError(
                f"EASE: {len(taken):,} rated movies, at most {MOST_MOVIES:,} (memory grows as their square): "
                "leave EASE out or take a smaller dataset"
            )
        self.ratings = everything[:, taken]
        self.column = np.full(data.movies, -1)
        self.column[taken] = np.arange(len(taken))
        gram = np.empty((len(taken), len(taken)))
        by_movie = self.ratings.T.tocsr()
        # The sparse product as a whole is larger than the dense one.
        for first in range(0, len(taken), MOVIES_AT_ONCE):
            part = slice(first, first + MOVIES_AT_ONCE)
            gram[part] = (by_movie[part] @ self.ratings).toarray()
        gram[np.diag_indices_from(gram)] += settings.l2
        # The transpose of a symmetric matrix is itself, in the order in which LAPACK works in place.
        inverse = inv(gram.T, overwrite_a=True, check_finite=False).T
        inverse /= -np.diag(inverse)
        np.fill_diagonal(inverse, 0)
        self.weights = np.ascontiguousarray(inverse, np.float32)


add(
    Baseline(
        name="ease",
        title="EASE",
        tasks=("ranking",),
        fit=Ease,
        settings=EaseSettings,
        space={"l2": Log(10, 10_000)},
        position=10,
    )
)
