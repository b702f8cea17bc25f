"""A model's figures over training seeds, and over splits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.evaluation.judgement import PerUser, Values, left_out_and_undefined
from models.evaluation.over_splits import over_splits
from models.evaluation.pairs import Judged


def summary(judged: list[Judged], seed: int) -> dict[str, Any]:
    """`metrics`, `ci95` and `per_seed` of a model from its judgements, one for each seed, and why any is None."""
    per_seed: list[Values] = [{key: value for part in parts for key, value in part.means().items()} for parts in judged]
    intervals = [
        {key: pair for part in parts for key, pair in part.intervals(seed).items()} for parts in _over_seeds(judged)
    ]
    reasons = left_out_and_undefined([part for parts in judged for part in parts])
    return {
        "metrics": {key: _mean([values[key] for values in per_seed]) for key in per_seed[0]},
        "ci95": {key: _mean_interval([one[key] for one in intervals]) for key in intervals[0]},
        "per_seed": {key: [values[key] for values in per_seed] for key in per_seed[0]},
        **{key: value for key, value in reasons.items() if value is not None},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one of the seeds has no value."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None


def _mean_interval(intervals: Sequence[list[float] | None]) -> list[float] | None:
    there = [one for one in intervals if one is not None]
    return np.mean(there, axis=0).tolist() if len(there) == len(intervals) else None


def _over_seeds(judged: list[Judged]) -> list[Judged]:
    """Metrics that are means over users become one judgement, of each user's mean over the seeds."""
    if not isinstance(judged[0][0], PerUser):
        return judged
    found: Judged = []
    for parts in zip(*judged):
        users = [part for part in parts if isinstance(part, PerUser)]
        means = {key: np.mean([part.values[key] for part in users], axis=0) for key in users[0].values}
        found.append(replace(users[0], values=means))
    return [found]


def summary_over_splits(found: Sequence[dict[str, Any]], tested: float) -> dict[str, Any]:
    """A model's `summary` over several splits, with `per_split`; that of the one split where there is no other.

    Args:
        tested: as in `over_splits`.
    """
    if len(found) == 1:
        return found[0]
    metrics, intervals = {}, {}
    for name in found[0]["metrics"]:
        values, pairs = [one["metrics"][name] for one in found], [one["ci95"][name] for one in found]
        metrics[name] = _mean(values)
        undefined = None in values or None in pairs
        over = None if undefined else over_splits(values, pairs, tested)
        intervals[name] = [over.low, over.high] if over else None
    return {
        "metrics": metrics,
        "ci95": intervals,
        "per_seed": {
            name: [_mean(of_seed) for of_seed in zip(*(one["per_seed"][name] for one in found))] for name in metrics
        },
        "per_split": {name: [one["metrics"][name] for one in found] for name in metrics},
        **{key: one[key] for one in reversed(found) for key in ("undefined", "left_out", "others") if key in one},
    }
