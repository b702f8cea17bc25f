"""How sure a difference between two models is: both judged on the same users, so that what users share cancels out.

Users are what is drawn at random, never rows, as the rows of one user are alike. How a model's training seeds differ is
no part of it, except where the metrics given are already means over several. Nor is how splits differ: that is what
`models.evaluation.over_splits` adds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.bootstrap import bootstrap
from models.evaluation.judgement import sums_of_users
from models.evaluation.metrics.base import RowStatistic

SURE = ((0.001, "practically certain"), (0.01, "very likely"), (0.05, "likely"))  # p below which, in words
SURE_OF_ONE_SPLIT = SURE[1:]  # another split may say something else
SIGNS_AT_ONCE = 1 << 22  # 38 MB: a byte and a float64 each
NOISE = 1e-12  # differences of rounding, beside metrics of about 1


@dataclass(frozen=True)
class Difference:
    """One model's metric minus another's, its 95 % interval, and how often chance alone would differ as much."""

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a difference rests on, as far as a sentence says it.

    Attributes:
        seeds: how many training seeds the metrics are means over; None where the sentence does not say it.
        splits: how many splits the metrics are means over.
        is_only_split: whether chance plays no part in the split, so that there is no other.
        pairs: how many pairs of models were compared: the p-value is corrected for these.
    """

    seeds: int | None = None
    splits: int = 1
    is_only_split: bool = False
    pairs: int = 1

    def __str__(self) -> str:
        trained = [] if self.seeds is None else [f"{self.seeds} training seed{'s' * (self.seeds != 1)} each"]
        one = "the only split" if self.is_only_split else "one split"
        return ", ".join([*trained, one if self.splits == 1 else f"{self.splits} splits"])


ONE_PAIR = Basis()


def paired_difference(one: np.ndarray, other: np.ndarray, seed: int, rounds: int = 10_000) -> Difference:
    """Difference of a metric that is a mean over users, as HR@10 and NDCG@10 are.

    The interval is the percentile bootstrap's. The p-value is the two-sided sign-flip test's: were the models alike,
    each user's difference could as well have the other sign; of such flips and what was seen, (1 + count) / (1 +
    rounds) have a mean at least as far from 0 (Edgington, "Randomization Tests", 1980).

    Args:
        one, other: float64 [users], of the same users in the same order.

    Raises:
        ValueError: other shapes, fewer than two users, or a value that is not a finite number.

    >>> paired_difference(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0]), seed=0, rounds=100)
    Difference(value=0.0, low=0.0, high=0.0, p_value=1.0)
    """
    difference = _subtract(one, other)
    if difference.ndim != 1 or len(difference) < 2:
        raise ValueError(f"a metric of at least two users is needed, not of the shape {difference.shape}")
    users = len(difference)
    low, high = bootstrap(lambda weight: float(weight @ difference) / users, users, seed, rounds)
    return Difference(float(difference.mean()), float(low), float(high), sign_flips(difference, seed, rounds))


def paired_row_difference(
    one: Sequence[RowStatistic], other: Sequence[RowStatistic], owner: np.ndarray, seed: int, rounds: int = 2_000
) -> Difference:
    """Difference of a metric of rows, such as AUC or RMSE, of two models that scored the same rows.

    Bootstrap over users, all rows of a user together. The p-value is two-sided, from the normal distribution with the
    bootstrap's standard deviation.

    Args:
        one, other: the metric of each training seed, taken apart; what is summed up is averaged over the seeds. So an
            AUC is the mean of the seeds' AUCs, and an RMSE comes from the mean of their squared errors.
        owner: int [rows], whose row each is, 0 to users - 1.

    Raises:
        ValueError: other shapes, fewer than two users, or a metric that is not a finite number, as the AUC of rows that
            all have the same label.
    """
    first, second = mean_statistic(one), mean_statistic(other)
    if not len(owner) == len(first.sums) == len(second.sums):
        raise ValueError(f"the shapes {owner.shape}, {first.sums.shape} and {second.sums.shape} differ")
    of_one, of_other = sums_of_users(owner, first.sums), sums_of_users(owner, second.sums)
    if len(of_one) < 2:
        raise ValueError("at least two users are needed")

    def statistic(weight: np.ndarray) -> float:
        if not weight.any():
            return math.nan
        difference = first.of_sums(weight @ of_one) - second.of_sums(weight @ of_other)
        return float(difference + first.offset - second.offset)

    value = statistic(np.ones(len(of_one)))
    if not math.isfinite(value):
        raise ValueError("the metric is not a finite number; an AUC needs rows with both labels")
    return _by_bootstrap(value, statistic, len(of_one), seed, rounds)


def mean_statistic(seeds: Sequence[RowStatistic]) -> RowStatistic:
    """What is summed up, averaged over training seeds."""
    return RowStatistic(
        np.mean([one.sums for one in seeds], axis=0), seeds[0].of_sums, float(np.mean([one.offset for one in seeds]))
    )


def verdict(
    name_one: str,
    name_other: str,
    metric: str,
    difference: Difference,
    higher_is_better: bool = True,
    basis: Basis = ONE_PAIR,
) -> str:
    """What a difference allows to say, in one sentence that names the better model first.

    One is better where p < 0.05 and the interval leaves out 0. Of one split nothing is practically certain: what chance
    in the split does is not covered.

    Args:
        difference: `name_one`'s metric minus `name_other`'s, its p-value corrected where there are several pairs.

    >>> verdict("A", "B", "X", Difference(-0.012, -0.02, -0.004, 0.02))
    'B is better than A: X higher by 0.012 (95 % interval 0.004 to 0.020, p = 0.02, one split), so this is likely.'
    >>> verdict("A", "B", "X", Difference(0.002, -0.006, 0.01, 0.62), basis=Basis(splits=3))
    'No difference can be told between A and B: X differs by 0.002 (95 % interval -0.006 to 0.010, p = 0.62, 3 splits).'
    """
    value, low, high, p = difference.value, difference.low, difference.high, difference.p_value
    sure = sureness(p, basis.splits)
    decided = sure is not None and (low > 0 or high < 0)
    if decided and high < 0:
        value, low, high = -value, -high, -low
    places = _decimals(high - low, *((abs(low), abs(high)) if decided else ()))
    amount, lowest, highest = (f"{round(number, places) + 0.0:.{places}f}" for number in (value, low, high))
    p_text = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    if basis.pairs > 1:
        p_text += f" corrected for {basis.pairs} pairs"
    evidence = f"{amount} (95 % interval {lowest} to {highest}, {p_text}, {basis})"
    if not decided:
        return f"No difference can be told between {name_one} and {name_other}: {metric} differs by {evidence}."
    first_is_higher = difference.low > 0
    better, worse = (name_one, name_other) if first_is_higher == higher_is_better else (name_other, name_one)
    direction = "higher" if higher_is_better else "lower"
    return f"{better} is better than {worse}: {metric} {direction} by {evidence}, so this is {sure}."


def sureness(p_value: float, splits: int) -> str | None:
    """How sure a difference is, in words; None where it is not.

    >>> sureness(0.0001, splits=1), sureness(0.0001, splits=5), sureness(0.2, splits=5)
    ('very likely', 'practically certain', None)
    """
    scale = SURE if splits > 1 else SURE_OF_ONE_SPLIT
    return next((words for limit, words in scale if p_value < limit), None)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are, so that the chance of any false rejection stays below the limit.

    The i-th smallest of m (from 0) is multiplied by m - i, and is at least the one before it and at most 1 (Holm, "A
    Simple Sequentially Rejective Multiple Test Procedure", 1979). It holds whatever the dependence between the tests.

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    values = np.array(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (len(values) - np.arange(len(values)))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def _decimals(*sizes: float) -> int:
    """Decimals to print: three, or up to six where one of the sizes would print as 0."""
    visible = [size for size in sizes if size > NOISE]
    if not visible:
        return 3
    return min(6, max(3, math.ceil(-math.log10(min(visible)))))


def _subtract(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 of the same shape."""
    if one.shape != other.shape:  # numpy would stretch a single value
        raise ValueError(f"the shapes {one.shape} and {other.shape} differ")
    difference = one.astype(np.float64) - other
    if not np.isfinite(difference).all():
        raise ValueError("a value is not a finite number")
    return difference


def _by_bootstrap(
    value: float, statistic: Callable[[np.ndarray], float], users: int, seed: int, rounds: int
) -> Difference:
    """The interval as `bootstrap` gives it, and a two-sided p-value from the resamples' standard deviation."""
    drawn: list[float] = []

    def remembered(weight: np.ndarray) -> float:
        drawn.append(statistic(weight))
        return drawn[-1]

    low, high = bootstrap(remembered, users, seed, rounds)
    spread = float(np.nanstd(drawn))
    deviations = 0.0 if abs(value) <= NOISE else abs(value) / spread if spread else math.inf
    return Difference(value, float(low), float(high), math.erfc(deviations / math.sqrt(2)))


def sign_flips(difference: np.ndarray, seed: int, rounds: int) -> float:
    """The sign-flip test's two-sided p-value, at least 1 / (1 + rounds)."""
    moved = difference[difference != 0]  # a flip changes no other
    total = moved.sum()
    as_far = abs(total) - NOISE * np.abs(moved).sum()  # equal sums in another order round differently
    rng = np.random.default_rng((seed, 1))  # other numbers than the bootstrap's
    at_once = max(1, SIGNS_AT_ONCE // max(1, len(moved)))
    count = 0
    for start in range(0, rounds, at_once):
        block, width = min(at_once, rounds - start), -(-len(moved) // 8)
        coins = np.frombuffer(rng.bytes(block * width), np.uint8).reshape(block, width)  # eight to a byte
        kept = np.unpackbits(coins, axis=1, count=len(moved)).astype(np.float64)
        count += int((np.abs(2 * (kept @ moved) - total) >= as_far).sum())
    return (1 + count) / (1 + rounds)
