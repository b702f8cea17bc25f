"""A figure over several random splits: its mean, and an interval that covers users, training seeds and splits.

One split's interval covers users alone. The variance of the mean over N splits is taken as the sum of two parts:

    V_users  = mean over splits of the variance over users (by bootstrap, of values that are means over training seeds)
    V_splits = (1 / N + tested rows / training rows) * variance over splits

The second is the corrected resampled variance of Nadeau and Bengio, "Inference for the Generalization Error", 2003: the
splits share most of their training rows, so that 1 / N alone would be too small. It also holds what training seeds do
(Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", 2021, vary all sources at once likewise).
V_users is not divided by N, as the users are the same in every split. What both parts see, which rows of a user are
tested, is counted twice, so that the interval is too wide rather than too narrow.
"""

import math
from collections.abc import Sequence

import numpy as np

from models.evaluation.paired import NOISE, Difference

LEAST_SHARE = 1e-6  # of the variance: below it Student's t is the normal distribution
SPAN_OF_95 = 2 * 1.959963984540054  # standard deviations, of a normal distribution


def over_splits(values: Sequence[float], intervals: Sequence[Sequence[float]], tested: float) -> Difference:
    """The mean over splits with its interval by Student's t and its two-sided p-value.

    The degrees of freedom are Satterthwaite's (1946): N - 1 where all variance is between the splits, more where that
    between users dominates, which is known from many users.

    Args:
        values: a metric, or a difference of two, in each of at least two splits.
        intervals: the 95 % interval over users of each, low and high.
        tested: how many rows test for each row that trains.

    Raises:
        ValueError: fewer than two splits.

    >>> found = over_splits([0.01, 0.03], [(0.01, 0.01), (0.03, 0.03)], tested=0.25)
    >>> round(found.value, 3), round((found.high - found.low) / 2, 3)
    (0.02, 0.156)
    """
    from scipy.stats import t  # type: ignore[import-untyped]  # takes a second, and one split does not need it

    count = len(values)
    if count < 2:
        raise ValueError("the variance over splits needs at least two splits")
    of_users = float(np.mean([((high - low) / SPAN_OF_95) ** 2 for low, high in intervals]))
    of_splits = (1 / count + tested) * float(np.var(values, ddof=1))
    mean, variance = float(np.mean(values)), of_users + of_splits
    if math.sqrt(variance) <= NOISE:
        return Difference(mean, mean, mean, 1.0 if abs(mean) <= NOISE else 0.0)
    share = of_splits / variance
    freedom = (count - 1) / share**2 if share > LEAST_SHARE else math.inf
    deviation = math.sqrt(variance)
    half = float(t.ppf(0.975, freedom)) * deviation
    return Difference(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / deviation, freedom)))
