"""Confidence intervals by resampling users."""

from collections.abc import Callable
from typing import Any

import numpy as np


def bootstrap(statistic: Callable[[np.ndarray], Any], users: int, seed: int, rounds: int) -> np.ndarray:
    """95 % intervals by the percentile bootstrap over users (Efron, 1979).

    Args:
        statistic: of float64 [users], how often each user was drawn, to a number or to float [k].
        users: how many there are.
        rounds: how many resamples.

    Returns:
        float64 [2] or [2, k]: low, high.
    """
    return np.nanpercentile(resampled(statistic, users, seed, rounds), [2.5, 97.5], axis=0)


def resampled(statistic: Callable[[np.ndarray], Any], users: int, seed: int, rounds: int) -> np.ndarray:
    """The statistic of each resample: float64 [rounds] or [rounds, k]; arguments as in `bootstrap`."""
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(rounds))
    return np.array([statistic(draw.astype(float)) for draw in draws])
