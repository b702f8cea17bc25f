"""What scores are worth: metrics of users or of rows, with intervals over users."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.evaluation.bootstrap import bootstrap
from models.evaluation.metrics.base import RowStatistic, metrics_of

if TYPE_CHECKING:
    from models.data.interactions import Interactions

# int64 [n] user indices, int64 [n] movie indices -> float [n] scores
ScorePairs = Callable[[np.ndarray, np.ndarray], np.ndarray]
BOOTSTRAP_ROUNDS = 1_000


@dataclass(frozen=True)
class Scorer:
    """A trained network or a baseline, as validation and test ask it.

    Attributes:
        pairs: its scores of users and movies, now.
        rows: its scores of a split's rows, each at its own time.
        is_probability: whether the scores are probabilities, so that a log loss means something.
    """

    pairs: ScorePairs
    rows: Callable[["Interactions"], np.ndarray]
    is_probability: bool


class PairScorer(Protocol):
    """A fitted baseline: scores of pairs, the same at any time."""

    is_probability: bool

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices."""


def scorer_of(baseline: PairScorer) -> Scorer:
    """A baseline as validation and test ask it."""

    def rows(table: "Interactions") -> np.ndarray:
        return np.asarray(baseline(table.user.long().numpy(), table.movie.long().numpy()))

    return Scorer(baseline, rows, baseline.is_probability)


@dataclass(frozen=True)
class PerUser:
    """Metrics that are means over users.

    Attributes:
        values: name to float64 [users].
        counted_as: the field of a result that says how many users these are.
    """

    values: dict[str, np.ndarray]
    counted_as: str = "test_users"

    @property
    def count(self) -> int:
        """How many users there are."""
        return len(next(iter(self.values.values())))

    def means(self) -> dict[str, float]:
        """Each metric."""
        return {name: float(value.mean()) for name, value in self.values.items()}

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users."""
        values = np.stack(list(self.values.values()), axis=1)
        low, high = bootstrap(lambda weight: weight @ values / weight.sum(), len(values), seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.values)}


@dataclass(frozen=True)
class PerRow:
    """Metrics of scored rows.

    Attributes:
        statistics: each metric, taken apart.
        owner: int64 [rows], whose row each is, 0 to users - 1.
        counted_as: the field of a result that says how many rows these are.
    """

    statistics: dict[str, RowStatistic]
    owner: np.ndarray
    counted_as: str = "test_rows"

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.owner)

    def means(self) -> dict[str, float]:
        """Each metric over all rows."""
        return {name: _value(one, one.sums.sum(axis=0)) for name, one in self.statistics.items()}

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users, all rows of a user together."""
        of_users = {name: sums_of_users(self.owner, one.sums) for name, one in self.statistics.items()}

        def resampled(weight: np.ndarray) -> list[float]:
            return [_value(one, weight @ of_users[name]) for name, one in self.statistics.items()]

        users = len(next(iter(of_users.values())))
        low, high = bootstrap(resampled, users, seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.statistics)}


Judgement = PerUser | PerRow


def judge_rows(
    task: str, label: np.ndarray, scores: np.ndarray, owner: np.ndarray, is_probability: bool = True
) -> PerRow:
    """The metrics of a task for scored rows.

    Args:
        task: `classification` or `rating`.
        label: [rows], 0 or 1, or the stars.
        scores: float [rows].
        owner: int64 [rows], whose row each is.
        is_probability: whether metrics that need probabilities mean something.

    Raises:
        ValueError: a score is not a number.
    """
    chosen = {name: one for name, one in metrics_of(task).items() if is_probability or not one.needs_probability}
    return PerRow({name: one.per_row(label, scores) for name, one in chosen.items() if one.per_row}, owner)


def owners(rows: "Interactions") -> np.ndarray:
    """Whose row each is, from 0 to one less than the users that have any: int64 [n]."""
    user = rows.user.long().numpy()
    return (np.cumsum(np.bincount(user) > 0) - 1)[user]


def sums_of_users(owner: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The sums over each user's rows, float64 [users, k], of float64 [rows, k]."""
    return np.stack([np.bincount(owner, column) for column in sums.T], axis=1)


def _value(statistic: RowStatistic, sums: np.ndarray) -> float:
    return float(statistic.of_sums(sums) + statistic.offset)
