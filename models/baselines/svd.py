"""SVD: biases, and factors for what they leave of the stars."""

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.decomposition import TruncatedSVD

from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.biases import BiasSettings, StarBiases
from models.baselines.matrix import dot_products
from models.baselines.stars import rating_columns
from models.search_space import Integer, Log, Uniform


@dataclass(frozen=True, config=STRICT)
class SvdSettings:
    """Settings of `Svd`.

    Attributes:
        factors: how many a user and a movie have.
        shrinkage: of the biases.
        scale: multiplies what the factors add to the biases.
    """

    factors: Annotated[int, Field(gt=0)] = 12
    shrinkage: Annotated[float, Field(gt=0)] = 5.0
    scale: Annotated[float, Field(ge=0)] = 2.0


class Svd(StarBiases):
    """Biases + the truncated SVD of what they leave of the ratings, where a missing rating leaves 0.

    As PureSVD (Cremonesi et al., "Performance of Recommender Algorithms on Top-N Recommendation Tasks", 2010), but on
    residuals.

    Attributes:
        user_factors, movie_factors: float64 [users, factors], [movies, factors].
    """

    def __init__(self, data: TrainingData, settings: SvdSettings, seed: int):
        super().__init__(data, BiasSettings(settings.shrinkage), seed)
        user, movie, stars = rating_columns(data)
        residuals = stars - super().predict(user, movie)
        matrix = csr_matrix((residuals, (user, movie)), shape=(data.users, data.movies))
        svd = TruncatedSVD(min(settings.factors, data.users, data.movies), random_state=seed)
        with np.errstate(invalid="ignore"):  # the share of the variance that is explained, where there is none
            self.user_factors = settings.scale * svd.fit_transform(matrix)
        self.movie_factors = np.ascontiguousarray(svd.components_.T)

    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float64 [n], stars, not clipped yet."""
        return super().predict(user, movie) + dot_products(self.user_factors, self.movie_factors, user, movie)


add(
    Baseline(
        name="svd",
        title="SVD",
        tasks=("rating",),
        fit=Svd,
        settings=SvdSettings,
        space={"factors": Integer(2, 100, log=True), "shrinkage": Log(0.5, 50), "scale": Uniform(0.1, 3.0)},
        uses_chance=True,
        position=50,
    )
)
