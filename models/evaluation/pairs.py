"""Paired differences of every two models that were judged by the same questions, and what they allow to say."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from models.baselines.base import baselines_of
from models.evaluation.bootstrap import resampled
from models.evaluation.judgement import CI95, Judgement, PerRow, PerUser, sums_of_users
from models.evaluation.metrics.base import spoken
from models.evaluation.over_splits import over_splits
from models.evaluation.paired import NOISE, Basis, Difference, holm, mean_statistic, sign_flips, verdict
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from workflows.splits.base import SPLITS

Judged = list[Judgement]  # of one training seed
Found = Difference | str  # a string says why there is no difference
Pair = tuple[str, str]
ROUNDS_OF_USERS, ROUNDS_OF_ROWS = 10_000, 2_000
FLIPS, FLIPS_A_PAIR = 10_000, 2_000  # so many pairs multiply the smallest p-value that flips can give
P_VALUE, CORRECTED = "p", "p_holm"  # keys of a difference in `compare`'s file


def all_pairs(judged: Mapping[str, list[Judged]], protocol: str, seed: int) -> dict[Pair, dict[str, Found]]:
    """The difference of every two models by each metric that the protocol compares: the first minus the second.

    Values, intervals and p-values are those of `models.evaluation.paired`. All models are resampled together.

    Args:
        judged: each model's judgements by the same questions, one for each training seed.
        seed: of the bootstrap and of the flips.
    """
    asked = PROTOCOLS[protocol]
    pairs = list(combinations(judged, 2))
    found: dict[Pair, dict[str, Found]] = {pair: {} for pair in pairs}
    for metric in (asked.deciding, *asked.also_compared):
        flips = max(FLIPS, FLIPS_A_PAIR * len(pairs)) if metric == asked.deciding else FLIPS
        for pair, difference in _of_metric(judged, metric, seed, flips).items():
            found[pair][metric] = difference
    return found


def _of_metric(judged: Mapping[str, list[Judged]], metric: str, seed: int, flips: int) -> dict[Pair, Found]:
    """All pairs by one metric."""
    parts = {name: [_part_with(one, metric) for one in seeds] for name, seeds in judged.items()}
    reasons = {name: _why_not(found, metric) for name, found in parts.items()}
    able = {name: [part for part in found if part] for name, found in parts.items() if not reasons[name]}
    if not able:
        differences = {}
    elif isinstance(next(iter(able.values()))[0], PerUser):
        differences = _of_users(able, metric, seed, flips)
    else:
        differences = _of_rows(able, metric, seed)
    return {pair: differences.get(pair, reasons[pair[0]] or reasons[pair[1]]) for pair in combinations(judged, 2)}


def _part_with(parts: Judged, metric: str) -> Judgement | None:
    """The judgement that has a metric: a protocol may judge by several sets of questions."""
    return next((part for part in parts if metric in part.names), None)


def _why_not(parts: Sequence[Judgement | None], metric: str) -> str:
    """Why a model cannot be compared by a metric; empty where it can."""
    if None in parts:
        return "one of the models is not judged by it"
    reasons = {key: reason for part in parts if part for key, reason in part.undefined().items()}
    return reasons.get(metric) or reasons.get(CI95) or ""


def _of_users(parts: Mapping[str, Sequence[Judgement]], metric: str, seed: int, flips: int) -> dict[Pair, Found]:
    """Of a metric that is a mean over users: as `paired_difference`."""
    of_models = {
        name: np.mean([part.values[metric] for part in found if isinstance(part, PerUser)], axis=0)
        for name, found in parts.items()
    }
    values = np.stack(list(of_models.values()), axis=1)
    users = len(values)
    drawn = resampled(lambda weight: weight @ values / users, users, seed, ROUNDS_OF_USERS)

    def difference(one: int, other: int) -> Difference:
        apart = values[:, one] - values[:, other]
        low, high = np.percentile(drawn[:, one] - drawn[:, other], [2.5, 97.5])
        return Difference(float(apart.mean()), float(low), float(high), sign_flips(apart, seed, flips))

    return _each(list(of_models), difference)


def _of_rows(parts: Mapping[str, Sequence[Judgement]], metric: str, seed: int) -> dict[Pair, Found]:
    """Of a metric of rows: as `paired_row_difference`."""
    owner = next(part.owner for found in parts.values() for part in found if isinstance(part, PerRow))
    statistics = [
        mean_statistic([part.statistics[metric] for part in found if isinstance(part, PerRow)])
        for found in parts.values()
    ]
    sums = [sums_of_users(owner, one.sums) for one in statistics]

    def of_models(weight: np.ndarray) -> list[float]:
        return [float(one.of_sums(weight @ of_one) + one.offset) for one, of_one in zip(statistics, sums)]

    values = of_models(np.ones(len(sums[0])))
    drawn = resampled(of_models, len(sums[0]), seed, ROUNDS_OF_ROWS)

    def difference(one: int, other: int) -> Difference:
        apart = drawn[:, one] - drawn[:, other]
        value, spread = values[one] - values[other], float(np.nanstd(apart))
        low, high = np.nanpercentile(apart, [2.5, 97.5])
        deviations = 0.0 if abs(value) <= NOISE else abs(value) / spread if spread else math.inf
        return Difference(value, float(low), float(high), math.erfc(deviations / math.sqrt(2)))

    return _each(list(parts), difference)


def _each(names: list[str], difference: Callable[[int, int], Difference]) -> dict[Pair, Found]:
    places = combinations(range(len(names)), 2)
    return {(names[one], names[other]): difference(one, other) for one, other in places}


def joined(splits: Sequence[dict[Pair, dict[str, Found]]], tested: float) -> dict[Pair, dict[str, Found]]:
    """The differences over several splits; those of the one split where there is no other.

    Args:
        tested: as in `over_splits`.
    """
    if len(splits) == 1:
        return splits[0]
    return {
        pair: {metric: _joined([one[pair][metric] for one in splits], tested) for metric in of_pair}
        for pair, of_pair in splits[0].items()
    }


def _joined(found: Sequence[Found], tested: float) -> Found:
    reason = next((one for one in found if isinstance(one, str)), None)
    if reason is not None:
        return reason
    of_splits = [one for one in found if isinstance(one, Difference)]
    return over_splits([one.value for one in of_splits], [(one.low, one.high) for one in of_splits], tested)


# -- what is written and said ------------------------------------------------------------------------------------------


def as_json(protocol: str, pairs: Mapping[Pair, Mapping[str, Found]]) -> dict[str, Any]:
    """`<one>_minus_<other>` for every pair, and in `pairs` how many there are by which the p-values are corrected.

    A difference has `value`, `low`, `high` and `p`, that of the deciding metric also `p_holm`; where there is none,
    they are None, with the reason under `undefined`.
    """
    deciding = PROTOCOLS[protocol].deciding
    found: dict[str, Any] = {
        f"{one}_minus_{other}": {name: _as_json(difference) for name, difference in by_metric.items()}
        for (one, other), by_metric in pairs.items()
    }
    tested = [by_metric[deciding] for by_metric in found.values() if by_metric[deciding][P_VALUE] is not None]
    for difference, corrected in zip(tested, holm([one[P_VALUE] for one in tested])):
        difference[CORRECTED] = corrected
    return {"pairs": len(tested), **found}


def _as_json(difference: Found) -> dict[str, Any]:
    if isinstance(difference, str):
        return {"value": None, "low": None, "high": None, P_VALUE: None, "undefined": difference}
    return {"value": difference.value, "low": difference.low, "high": difference.high, P_VALUE: difference.p_value}


def sentence(protocol: str, one: str, other: str, judged: Mapping[str, Any]) -> str:
    """What the deciding metric allows to say of two models.

    Args:
        judged: a protocol's part of `compare`'s file.

    Raises:
        KeyError: the two are not there.
    """
    asked = PROTOCOLS[protocol]
    swapped = f"{one}_minus_{other}" not in judged
    found = judged[f"{other}_minus_{one}" if swapped else f"{one}_minus_{other}"][asked.deciding]
    metric, names = spoken(asked.task, asked.deciding), (title_of(protocol, one), title_of(protocol, other))
    if found["value"] is None:
        return f"{names[0]} and {names[1]} cannot be compared by {metric}: {found['undefined']}."
    ends = (-found["high"], -found["low"]) if swapped else (found["low"], found["high"])
    difference = Difference(-found["value"] if swapped else found["value"], *ends, found[CORRECTED])
    basis = Basis(
        seeds=len(judged["seeds"]),
        splits=len(judged["splits"]),
        is_only_split=not SPLITS[asked.split].uses_chance,
        pairs=judged["pairs"],
    )
    return verdict(*names, metric, difference, asked.metric(asked.deciding).higher_is_better, basis)


def sentences(protocol: str, judged: Mapping[str, Any], compared: Sequence[str]) -> str:
    """A sentence for every two compared networks, and one on the best of them beside the best of the other models.

    Args:
        judged: a protocol's part of `compare`'s file.
        compared: the networks that the comparison is about.
    """
    pairs = list(combinations((name for name in judged["models"] if name in compared), 2))
    ours, best = (best_of(protocol, judged, among) for among in (compared, set(judged["models"]) - set(compared)))
    if ours and best:
        pairs.append((best, ours))
    return " ".join(sentence(protocol, *pair, judged) for pair in pairs)


def best_of(protocol: str, judged: Mapping[str, Any], among: Sequence[str] | set[str]) -> str | None:
    """The best of some models by the deciding metric, the first of equals; None where none has a value."""
    asked = PROTOCOLS[protocol]
    sign = asked.metric(asked.deciding).sign
    values = {name: model["metrics"].get(asked.deciding) for name, model in judged["models"].items() if name in among}
    return max(
        (name for name in values if values[name] is not None), key=lambda name: sign * values[name], default=None
    )


def title_of(protocol: str, model: str) -> str:
    """A model's name in sentences; the name itself where it is not registered."""
    known = NETWORKS.get(model) or baselines_of(protocol).get(model)
    return known.title if known else model
