"""What scores are worth: metrics of users or of rows, with intervals over users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.constants import K
from models.evaluation.bootstrap import bootstrap
from models.evaluation.kept import Kept, scored_rows
from models.evaluation.metrics.base import RowStatistic, metrics_of

if TYPE_CHECKING:
    from models.data.interactions import Candidates, Interactions

# int64 [n] user indices, int64 [n] movie indices -> float [n] scores
ScorePairs = Callable[[np.ndarray, np.ndarray], np.ndarray]
BOOTSTRAP_ROUNDS = 1_000
CI95 = "ci95"  # the key of the reason why metrics that have a value have no interval
Values = dict[str, float | None]  # None where a metric is undefined
Intervals = dict[str, list[float] | None]  # low and high


# int64 [users] user indices, int64 [n] movie indices -> float [users, n] scores, of each user with each movie
ScoreLists = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Asked:
    """A model as of the moments of some questions: for each user, before the held-out rating.

    Attributes:
        pairs: its scores of users and movies.
        lists: its scores of each user with each movie; None where that is no faster than by pairs.
    """

    pairs: ScorePairs
    lists: ScoreLists | None = None

    def of_each(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """float32 [users, movies], of int64 [users] and int64 [movies] indices."""
        if self.lists is not None:
            return self.lists(users, movies)
        scores = self.pairs(np.repeat(users, len(movies)), np.tile(movies, len(users)))
        return np.asarray(scores, np.float32).reshape(len(users), len(movies))


@dataclass(frozen=True)
class Scorer:
    """A trained network or a baseline, as validation and test ask it.

    Attributes:
        asked: gives it as of the moments of questions about held-out ratings.
        rows: its scores of a split's rows, each at its own time.
        is_probability: whether the scores are probabilities, so that a log loss means something.
    """

    asked: "Callable[[Candidates], Asked]"
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

    return Scorer(lambda questions: Asked(baseline), rows, baseline.is_probability)


@dataclass(frozen=True)
class PerUser:
    """Metrics that are means over users.

    Attributes:
        values: name to float64 [users], of the users that the metrics say something about.
        counted_as: the field of a result that says how many users these are.
        left_out: how many more users there are, with fewer than `K` others to rank the held-out movie among: they are
            a hit whatever the model.
        others: the fewest and the most movies that a held-out movie is ranked among (of those who are left out, where
            there is no other user); None where that is not kept.
        kept: the tables that the metrics are taken from, as `evaluate` writes them.
    """

    values: dict[str, np.ndarray]
    counted_as: str = "test_users"
    left_out: int = 0
    others: tuple[int, int] | None = None
    kept: tuple[Kept, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, defined or not."""
        return tuple(self.values)

    @property
    def count(self) -> int:
        """How many users there are."""
        return len(next(iter(self.values.values())))

    def means(self) -> Values:
        """Each metric; None where no user is left."""
        return {name: float(value.mean()) if len(value) else None for name, value in self.values.items()}

    def intervals(self, seed: int) -> Intervals:
        """95 % intervals by bootstrap over users; None with fewer than two."""
        if self.count < 2:
            return dict.fromkeys(self.values)
        values = np.stack(list(self.values.values()), axis=1)
        low, high = bootstrap(lambda weight: weight @ values / weight.sum(), len(values), seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.values)}

    def undefined(self) -> dict[str, str]:
        """Why a metric is undefined, by its name, or under `CI95` why the metrics have no interval."""
        if not self.count:
            reason = f"no user has {K} unseen movies" if self.left_out else "there are no users"
            return dict.fromkeys(self.values, reason)
        return _of_one_user(self.count)


@dataclass(frozen=True)
class PerRow:
    """Metrics of scored rows.

    Attributes:
        statistics: each metric, taken apart.
        owner: int64 [rows], whose row each is, 0 to users - 1.
        counted_as: the field of a result that says how many rows these are.
        kept: the tables that the metrics are taken from, as `evaluate` writes them.
    """

    statistics: dict[str, RowStatistic]
    owner: np.ndarray
    counted_as: str = "test_rows"
    kept: tuple[Kept, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, defined or not."""
        return tuple(self.statistics)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.owner)

    @property
    def users(self) -> int:
        """How many users have rows."""
        return int(self.owner.max()) + 1 if len(self.owner) else 0

    def means(self) -> Values:
        """Each metric over all rows; None where it is undefined."""
        if not self.count:
            return dict.fromkeys(self.statistics)
        return {
            name: None if one.undefined else _finite(_value(one, one.sums.sum(axis=0)))
            for name, one in self.statistics.items()
        }

    def intervals(self, seed: int) -> Intervals:
        """95 % intervals by bootstrap over users, all rows of a user together; None with fewer than two."""
        found: Intervals = dict.fromkeys(self.statistics)
        defined = {name: self.statistics[name] for name, value in self.means().items() if value is not None}
        if self.users < 2 or not defined:
            return found
        of_users = {name: sums_of_users(self.owner, one.sums) for name, one in defined.items()}

        def resampled(weight: np.ndarray) -> list[float]:
            return [_value(one, weight @ of_users[name]) for name, one in defined.items()]

        low, high = bootstrap(resampled, self.users, seed, BOOTSTRAP_ROUNDS)
        return found | {name: [float(low[i]), float(high[i])] for i, name in enumerate(defined)}

    def undefined(self) -> dict[str, str]:
        """Why a metric is undefined, by its name, or under `CI95` why the metrics have no interval."""
        if not self.count:
            return dict.fromkeys(self.statistics, "there are no rows")
        without = {
            name: self.statistics[name].undefined or "the value is not a finite number"
            for name, value in self.means().items()
            if value is None
        }
        return without if len(without) == len(self.statistics) else {**without, **_of_one_user(self.users)}


Judgement = PerUser | PerRow


def means_of(parts: Sequence[Judgement]) -> Values:
    """Every metric of a model's judgements."""
    return {name: value for part in parts for name, value in part.means().items()}


def undefined_in(parts: Sequence[Judgement]) -> dict[str, str]:
    """Why metrics are undefined, by their names: see `undefined` of each part."""
    return {name: reason for part in parts for name, reason in part.undefined().items()}


def left_out_and_undefined(parts: Sequence[Judgement]) -> dict[str, Any]:
    """The fields of a result that say what a model was not judged by: `undefined`, `left_out` and `others`.

    A field that has nothing to say is None.
    """
    of_users = [part for part in parts if isinstance(part, PerUser)]
    return {
        "undefined": undefined_in(parts) or None,
        "left_out": {part.counted_as: part.left_out for part in of_users if part.left_out} or None,
        "others": next((part.others for part in of_users if part.others), None),
    }


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
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    chosen = {name: one for name, one in metrics_of(task).items() if is_probability or not one.needs_probability}
    return PerRow({name: one.per_row(label, scores) for name, one in chosen.items() if one.per_row}, owner)


def judge_split(
    task: str, rows: "Interactions", label: np.ndarray, scores: np.ndarray, is_probability: bool = True
) -> PerRow:
    """The metrics of a task for the rows of a split, which are kept; arguments and errors as in `judge_rows`."""
    judged = judge_rows(task, label, scores, owners(rows), is_probability)
    return replace(judged, kept=(scored_rows(rows, label, scores),))


def owners(rows: "Interactions") -> np.ndarray:
    """Whose row each is, from 0 to one less than the users that have any: int64 [n]."""
    user = rows.user.long().numpy()
    return (np.cumsum(np.bincount(user) > 0) - 1)[user]


def sums_of_users(owner: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The sums over each user's rows, float64 [users, k], of float64 [rows, k]."""
    return np.stack([np.bincount(owner, column) for column in sums.T], axis=1)


def _value(statistic: RowStatistic, sums: np.ndarray) -> float:
    return float(statistic.of_sums(sums) + statistic.offset)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _of_one_user(users: int) -> dict[str, str]:
    return {CI95: "an interval over users needs at least two users"} if users < 2 else {}
