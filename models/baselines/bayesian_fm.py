"""Bayesian FM: a factorisation machine over ids and rated sets, its weights drawn by Gibbs sampling.

Rendle, "Factorization Machines with libFM", 2012. With both sets it is the "Bayesian SVD++ flipped" that Rendle, Zhang
and Koren, "On the Difficulty of Evaluating Baselines", 2019, found ahead of what had been published for MovieLens'
stars. The sampler is myFM's, which runs in one thread.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.sparse import csr_matrix, diags, hstack, identity  # type: ignore[import-untyped]
from scipy.special import ndtr  # type: ignore[import-untyped]

from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.matrix import dot_products, rated_matrix
from models.baselines.stars import StarScorer, rating_columns
from models.search_space import Integer, OneOf

WARM_UP = 0.25  # the share of the iterations whose draws are not kept
INIT_STD = 0.1  # of the factors before the first iteration
LEAST = 0.001  # the lowest probability


@dataclass(frozen=True, config=STRICT)
class BayesianSettings:
    """Settings of `BayesianLiking` and `BayesianStars`.

    Attributes:
        rank: how many factors an id has, and a member of a set.
        iterations: of the sampler; the draws of the first quarter are not kept.
        sets: what it sees besides ids: `none`; the movies that the user has rated (`user`, as SVD++ does); or also the
            users that have rated the movie (`both`).
    """

    rank: Annotated[int, Field(gt=0)] = 8
    iterations: Annotated[int, Field(gt=0)] = 300
    sets: Literal["none", "user", "both"] = "both"


class BayesianLiking:
    """The probability that a user likes a movie: the mean over the draws of the normal distribution's (probit)."""

    is_probability = True

    def __init__(self, data: TrainingData, settings: BayesianSettings, seed: int):
        target = np.where(data.rows.label.numpy() > 0, 1.0, -1.0)
        self.draws = gibbs_draws(data, target, "CLASSIFICATION", settings, seed)

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], probabilities, of int64 [n] indices."""
        chance = mean_over(self.draws, user, movie, ndtr)
        return np.clip(chance, LEAST, 1 - LEAST).astype(np.float32)


class BayesianStars(StarScorer):
    """The posterior mean of the stars."""

    def __init__(self, data: TrainingData, settings: BayesianSettings, seed: int):
        super().__init__(data)
        stars = rating_columns(data)[2]
        self.mean = float(stars.mean())
        self.draws = gibbs_draws(data, stars - self.mean, "REGRESSION", settings, seed)

    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float64 [n], stars, not clipped yet."""
        return self.mean + mean_over(self.draws, user, movie, lambda score: score)


@plain_dataclass(frozen=True)
class Terms:
    """What one draw says of each user, or of each movie: `bias`, float32 [n], and `factors`, float32 [n, rank]."""

    bias: np.ndarray
    factors: np.ndarray


@plain_dataclass(frozen=True)
class Draw:
    """One draw of all weights, as much of it as scores need."""

    constant: float
    user: Terms
    movie: Terms

    def score(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float64 [n] of int64 [n] indices, the same in any batch."""
        product = dot_products(self.user.factors, self.movie.factors, user, movie)
        return self.constant + self.user.bias[user].astype(np.float64) + self.movie.bias[movie] + product


def mean_over(
    draws: list[Draw], user: np.ndarray, movie: np.ndarray, predicted: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """float64 [n], the mean over the draws of what is predicted from a score."""
    total = np.zeros(len(user))
    for draw in draws:
        total += predicted(draw.score(user, movie))
    return total / len(draws)


@plain_dataclass(frozen=True, kw_only=True)
class Block:
    """What the machine sees of users, or of movies, of those that have training ratings.

    Attributes:
        features: CSR float64 [rated, columns]: the id, then the rated set over the root of its size.
        row: int64 [n], the row of each index in `features`; -1, the row after the last, for one without ratings.
        widths: of the two parts, each of which has a prior of its own.
    """

    features: csr_matrix
    row: np.ndarray
    widths: tuple[int, ...]

    @classmethod
    def of(cls, rated: csr_matrix, with_set: bool) -> "Block":
        """Of a matrix of ones, CSR [n, others]."""
        counts = np.diff(rated.indptr)
        there = np.flatnonzero(counts)
        row = np.full(len(counts), -1)
        row[there] = np.arange(len(there))
        parts = [identity(len(there), format="csr")]
        if with_set:
            parts.append(diags(counts[there] ** -0.5) @ rated[there][:, np.unique(rated.indices)])
        features = csr_matrix(hstack(parts), dtype=np.float64)
        return cls(features=features, row=row, widths=tuple(part.shape[1] for part in parts))

    def terms(self, weights: np.ndarray, factors: np.ndarray) -> Terms:
        """Of every index, from one draw, float64 [columns] and [columns, rank]; the mean where there are no ratings."""
        summed = self.features @ factors
        of_squares = self.features.multiply(self.features) @ (factors**2).sum(axis=1)
        bias = self.features @ weights + ((summed**2).sum(axis=1) - of_squares) / 2
        return Terms(
            np.append(bias, bias.mean()).astype(np.float32)[self.row],
            np.vstack([summed, summed.mean(axis=0)]).astype(np.float32)[self.row],
        )


def gibbs_draws(data: TrainingData, target: np.ndarray, task: str, settings: BayesianSettings, seed: int) -> list[Draw]:
    """Draws of the weights given the training rows.

    Args:
        target: float64 [n]: numbers, or 1 and -1 for classification.
        task: of myFM's `TaskType`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its package asks for its version by way of pkg_resources, which is deprecated
        # Not by `MyFMRegressor`, which draws a progress bar and keeps every draw with all its columns.
        from myfm._myfm import (  # type: ignore[import-untyped]
            ConfigBuilder,
            RelationBlock,
            TaskType,
            create_train_fm,
        )
    rated = rated_matrix(data)
    blocks = Block.of(rated, settings.sets != "none"), Block.of(rated.T.tocsr(), settings.sets == "both")
    indices = data.rows.user.numpy(), data.rows.movie.numpy()
    relations = [RelationBlock(block.row[index], block.features) for block, index in zip(blocks, indices)]
    widths = [width for block in blocks for width in block.widths]
    config = ConfigBuilder().set_task_type(getattr(TaskType, task)).set_n_iter(settings.iterations)
    config.set_n_kept_samples(1).set_group_index(np.repeat(np.arange(len(widths)), widths).tolist())
    split = blocks[0].features.shape[1]
    kept: list[Draw] = []

    def keep(iteration: int, machine: Any, priors: Any, history: Any) -> bool:
        if iteration >= int(WARM_UP * settings.iterations):
            weights, factors = machine.w, machine.V
            user = blocks[0].terms(weights[:split], factors[:split])
            movie = blocks[1].terms(weights[split:], factors[split:])
            kept.append(Draw(machine.w0, user, movie))
        return False

    nothing = csr_matrix((len(target), 0))
    create_train_fm(settings.rank, INIT_STD, nothing, relations, target, seed, config.build(), keep)
    return kept


for task, scorer in (("classification", BayesianLiking), ("rating", BayesianStars)):
    add(
        Baseline(
            name="bayesian-fm",
            title="Bayesian FM",
            tasks=(task,),
            fit=scorer,
            settings=BayesianSettings,
            space={
                "rank": Integer(4, 32, log=True),
                "sets": OneOf("none", "user", "both"),
            },
            uses_chance=True,
            in_run=False,
            position=30,
        )
    )
