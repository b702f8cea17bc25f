"""ALS: matrix factorisation of who rated what, by alternating least squares."""

from typing import Annotated

import numpy as np
import torch
from implicit.cpu.als import AlternatingLeastSquares  # type: ignore[import-untyped]
from pydantic import Field
from pydantic.dataclasses import dataclass
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.matrix import dot_products, rated_matrix
from models.search_space import Integer, Log, OneOf


@dataclass(frozen=True, config=STRICT)
class AlsSettings:
    """Settings of `Als`.

    Attributes:
        factors: how many a user and a movie have.
        regularization: the weight of the penalty on squared factors.
        alpha: the confidence in a rating, where a missing one has 1.
        iterations: how often the factors of users and of movies are solved for.
    """

    factors: Annotated[int, Field(gt=0)] = 64
    regularization: Annotated[float, Field(ge=0)] = 30.0
    alpha: Annotated[float, Field(gt=0)] = 5.0
    iterations: Annotated[int, Field(gt=0)] = 15


class Als:
    """Scores a pair by the dot product of its factors, fitted by alternating least squares.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, by `implicit`. Stars and
    labels do not matter: every training rating is a 1, everything else a 0.

    Attributes:
        users, movies: float32 [users, factors], [movies, factors]; rows without ratings are 0.
    """

    is_probability = False

    def __init__(self, data: TrainingData, settings: AlsSettings, seed: int):
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
            model.fit(rated_matrix(data), show_progress=False)
        self.users, self.movies = model.user_factors, model.item_factors

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""
        return dot_products(self.users, self.movies, user, movie)


add(
    Baseline(
        name="als",
        title="ALS",
        tasks=("ranking",),
        fit=Als,
        settings=AlsSettings,
        space={
            "factors": OneOf(16, 32, 64, 128),
            "regularization": Log(0.01, 200),
            "alpha": Log(0.3, 30),
            "iterations": Integer(5, 30),
        },
        uses_chance=True,
        position=20,
    )
)
