"""How sure a difference between two models is: both judged on the same users, so that what users share cancels out.

Users are what is drawn at random, never rows, as the rows of one user are alike. How a model's training seeds differ is
no part of it, except where the metrics given are already means over several.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.evaluation.metrics import auc, bootstrap, placements

SURE = ((0.001, "practically certain"), (0.01, "very likely"), (0.05, "likely"))  # p below which, in words
SIGNS_AT_ONCE = 1 << 22  # 38 MB: a byte and a float64 each
NOISE = 1e-12  # differences of rounding, beside metrics of about 1


@dataclass(frozen=True)
class Difference:
    """One model's metric minus another's, its 95 % interval, and how often chance alone would differ as much."""

    value: float
    low: float
    high: float
    p_value: float


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
    return Difference(float(difference.mean()), float(low), float(high), _sign_flips(difference, seed, rounds))


def paired_auc_difference(
    label: np.ndarray, one: np.ndarray, other: np.ndarray, owner: np.ndarray, seed: int, rounds: int = 2_000
) -> Difference:
    """Difference of the AUCs of two scorers of the same rows.

    Bootstrap over users, all rows of a user together; the AUCs to first order in the users' weights, so that each
    scorer is sorted once (Obuchowski, 1997; as in `models.evaluation.judgement`). The p-value is two-sided, from the
    normal distribution with the bootstrap's standard deviation.

    Args:
        label: [rows], 0 or 1.
        one, other: float [rows], scores; or [seeds, rows], whose AUCs' mean over the seeds is what counts.
        owner: int [rows], whose row each is, 0 to users - 1.

    Raises:
        ValueError: other shapes, fewer than two users, only one label, or a score that is not a number.
    """
    positive = label > 0
    if positive.all() or not positive.any():
        raise ValueError("the rows must have both labels")
    ones, others = np.atleast_2d(one), np.atleast_2d(other)
    if not label.shape == ones.shape[1:] == others.shape[1:]:
        raise ValueError(f"the shapes {label.shape}, {one.shape} and {other.shape} differ")
    share = sum(placements(label, of) for of in ones) / len(ones) - sum(placements(label, of) for of in others) / len(
        others
    )
    of_users = _sums_of_users(owner, positive, ~positive, share * positive, share * ~positive)
    value = float(np.mean([auc(label, of) for of in ones]) - np.mean([auc(label, of) for of in others]))

    def resampled(weight: np.ndarray) -> float:
        positives, negatives, of_positives, of_negatives = weight @ of_users
        with np.errstate(invalid="ignore"):  # no positives drawn: not a number, which does not count
            return float(of_positives / positives + of_negatives / negatives - value)

    return _by_bootstrap(value, resampled, len(of_users), seed, rounds)


def paired_rmse_difference(
    stars: np.ndarray, one: np.ndarray, other: np.ndarray, owner: np.ndarray, seed: int, rounds: int = 2_000
) -> Difference:
    """Difference of the root mean squared errors of two models that predict the same rows' stars.

    Bootstrap over users and p-value as in `paired_auc_difference`, here without approximating the metric.

    Args:
        stars: float [rows], the truth.
        one, other: float [rows], two predictions; or [seeds, rows], whose squared errors' mean over the seeds counts.
        owner: int [rows], whose row each is, 0 to users - 1.

    Raises:
        ValueError: other shapes, fewer than two users, or a value that is not a finite number.
    """
    squares = [
        np.mean([_subtract(of, stars) ** 2 for of in np.atleast_2d(predicted)], axis=0) for predicted in (one, other)
    ]
    of_users = _sums_of_users(owner, np.ones(len(stars)), *squares)

    def statistic(weight: np.ndarray) -> float:
        rows, of_one, of_other = weight @ of_users
        return math.sqrt(of_one / rows) - math.sqrt(of_other / rows) if rows else math.nan

    return _by_bootstrap(statistic(np.ones(len(of_users))), statistic, len(of_users), seed, rounds)


def verdict(
    name_one: str,
    name_other: str,
    metric: str,
    difference: Difference,
    higher_is_better: bool = True,
    seeds: int | None = None,
) -> str:
    """What a difference allows to say, in one sentence that names the better model first.

    One is better where p < 0.05 and the interval leaves out 0.

    Args:
        difference: `name_one`'s metric minus `name_other`'s.
        seeds: how many training seeds the metrics are means over, if it shall be told.

    >>> verdict("DLRM", "NCF", "HR@10", Difference(-0.012, -0.02, -0.004, 0.003))
    'NCF is better than DLRM: HR@10 higher by 0.012 (95 % interval 0.004 to 0.020, p = 0.003), so this is very likely.'
    >>> verdict("DLRM", "NCF", "HR@10", Difference(0.002, -0.006, 0.01, 0.62))
    'No difference can be told between DLRM and NCF: HR@10 differs by 0.002 (95 % interval -0.006 to 0.010, p = 0.62).'
    """
    value, low, high, p = difference.value, difference.low, difference.high, difference.p_value
    sure = next((words for limit, words in SURE if p < limit), None)
    decided = sure is not None and (low > 0 or high < 0)
    if decided and high < 0:
        value, low, high = -value, -high, -low
    places = _decimals(high - low, *((abs(low), abs(high)) if decided else ()))
    amount, lowest, highest = (f"{round(number, places) + 0.0:.{places}f}" for number in (value, low, high))
    trained = "" if seeds is None else f", {seeds} training seed{'s' * (seeds != 1)} each"
    p_text = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    evidence = f"{amount} (95 % interval {lowest} to {highest}, {p_text}{trained})"
    if not decided:
        return f"No difference can be told between {name_one} and {name_other}: {metric} differs by {evidence}."
    first_is_higher = difference.low > 0
    better, worse = (name_one, name_other) if first_is_higher == higher_is_better else (name_other, name_one)
    direction = "higher" if higher_is_better else "lower"
    return f"{better} is better than {worse}: {metric} {direction} by {evidence}, so this is {sure}."


def _decimals(*sizes: float) -> int:
    """Decimals to print: three, or up to six where one of the sizes would print as 0."""
    shown = [size for size in sizes if size > NOISE]
    return min(6, max(3, math.ceil(-math.log10(min(shown))))) if shown else 3


def _subtract(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 of the same shape."""
    if one.shape != other.shape:  # numpy would stretch a single value
        raise ValueError(f"the shapes {one.shape} and {other.shape} differ")
    difference = one.astype(np.float64) - other
    if not np.isfinite(difference).all():
        raise ValueError("a value is not a finite number")
    return difference


def _sums_of_users(owner: np.ndarray, *values: np.ndarray) -> np.ndarray:
    """Each user's sums over the own rows, float64 [users, values]."""
    if owner.shape != values[0].shape:
        raise ValueError(f"the shapes {owner.shape} and {values[0].shape} differ")
    of_users = np.stack([np.bincount(owner, value) for value in values], axis=1)
    if len(of_users) < 2:
        raise ValueError("at least two users are needed")
    return of_users


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


def _sign_flips(difference: np.ndarray, seed: int, rounds: int) -> float:
    """The sign-flip test's two-sided p-value."""
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
