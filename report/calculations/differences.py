"""Paired differences of two models' metrics, several at once, where `models.evaluation.paired` takes one."""

from dataclasses import dataclass

import numpy as np

from models.evaluation.bootstrap import bootstrap
from models.evaluation.judgement import Judgement, PerRow, PerUser, sums_of_users
from models.evaluation.metrics.base import RowStatistic
from models.evaluation.paired import Difference, paired_difference, paired_row_difference

ROUNDS = 2_000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def differences(one: Judgement, other: Judgement, seed: int) -> dict[str, Interval]:
    """One model's metrics minus another's, by name, with intervals by paired bootstrap over users.

    The same users are drawn for both models. What cannot be compared is left out: a metric that is not a finite number
    for one of them, and everything where there are fewer than two users.

    Args:
        one, other: of the same users, or of the same rows, in the same order.

    >>> models = [PerUser({"hr@10": np.array(hits)}) for hits in ([1.0, 1.0], [0.0, 0.0])]
    >>> differences(*models, seed=0)
    {'hr@10': Interval(value=1.0, low=1.0, high=1.0)}
    """
    if isinstance(one, PerUser) and isinstance(other, PerUser):
        return _of_users(one, other, seed)
    assert isinstance(one, PerRow)
    assert isinstance(other, PerRow)
    return _of_rows(one, other, seed)


def _of_users(one: PerUser, other: PerUser, seed: int) -> dict[str, Interval]:
    names = comparable(one, other)
    if not names:
        return {}
    values = np.stack([one.values[name] - other.values[name] for name in names], axis=1)
    low, high = bootstrap(lambda weight: weight @ values / len(values), len(values), seed, ROUNDS)
    return {
        name: Interval(float(values[:, place].mean()), float(low[place]), float(high[place]))
        for place, name in enumerate(names)
    }


def _of_rows(one: PerRow, other: PerRow, seed: int) -> dict[str, Interval]:
    pairs = {name: minus(one.statistics[name], other.statistics[name]) for name in comparable(one, other)}
    sums = {name: sums_of_users(one.owner, pair.sums) for name, pair in pairs.items()}
    if not pairs:
        return {}

    def resampled(weight: np.ndarray) -> list[float]:
        return [float(pair.of_sums(weight @ sums[name]) + pair.offset) for name, pair in pairs.items()]

    values = resampled(np.ones(one.users))
    low, high = bootstrap(resampled, one.users, seed, ROUNDS)
    return {name: Interval(values[place], float(low[place]), float(high[place])) for place, name in enumerate(pairs)}


def minus(one: RowStatistic, other: RowStatistic) -> RowStatistic:
    """The difference of two metrics of the same rows, as a metric: undefined where one of them is.

    >>> from models.evaluation.metrics.base import mean_of
    >>> found = minus(mean_of(np.array([1.0, 0.0])), mean_of(np.array([0.0, 0.0])))
    >>> float(found.of_sums(found.sums.sum(axis=0)) + found.offset)
    0.5
    """
    width = one.sums.shape[1]
    return RowStatistic(
        np.concatenate([one.sums, other.sums], axis=1),
        lambda sums: one.of_sums(sums[:width]) - other.of_sums(sums[width:]),
        one.offset - other.offset,
        one.undefined or other.undefined,
    )


def difference_with_p(one: Judgement, other: Judgement, metric: str, seed: int) -> Difference | None:
    """One metric's difference with the p-value that `compare` gives; None where it cannot be compared.

    The interval is that of `differences`.
    """
    if metric not in comparable(one, other):
        return None
    if isinstance(one, PerUser) and isinstance(other, PerUser):
        return paired_difference(one.values[metric], other.values[metric], seed, ROUNDS)
    assert isinstance(one, PerRow)
    assert isinstance(other, PerRow)
    return paired_row_difference([one.statistics[metric]], [other.statistics[metric]], one.owner, seed, ROUNDS)


def comparable(one: Judgement, other: Judgement) -> list[str]:
    """The metrics that both models have a finite value of, in order; none where there are fewer than two users."""
    if min(part.count if isinstance(part, PerUser) else part.users for part in (one, other)) < 2:
        return []
    values, others = one.means(), other.means()
    return [name for name, value in values.items() if value is not None and others.get(name) is not None]
