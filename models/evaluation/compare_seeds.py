"""The command `compare`: several training seeds of everything, how sure a metric is, and which network is better.

The split and the test questions stay the same; what a seed changes is weights, order, dropout and negatives. Every seed
scores the test set once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from core.artifacts import fingerprint, package_versions, read_manifest
from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation import evaluate
from models.evaluation.evaluate import fitted_baseline, trained_scorer
from models.evaluation.judgement import CI95, Judgement, PerRow, PerUser, Scorer, Values, left_out_and_undefined
from models.evaluation.metrics.base import METRICS
from models.evaluation.paired import Difference, paired_difference, paired_row_difference, verdict
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.training.devices import device_name
from models.training.train import known_to, load, train

COUNTED = ("ratings", "users", "movies")
ROOMS = (
    *evaluate.ROOMS,
    "models/evaluation/compare_seeds.py",
    "models/evaluation/paired.py",
    "models/training/checkpoint.py",
    "models/training/devices.py",
    "models/training/epoch.py",
    "models/training/loop.py",
    "models/training/pretrain.py",
    "models/training/rowwise.py",
    "workflows/negatives.py",
)
LIBRARIES = (*evaluate.LIBRARIES, "merlin-core", "merlin-dataloader", "numba")
Judged = list[Judgement]  # of one seed
Advance = Callable[[float, str], None]


def compare(
    run: Run, protocols: tuple[str, ...], seeds: list[int], device: torch.device, advance: Advance
) -> dict[str, Any]:
    """Trains and judges every model with every seed.

    Args:
        advance: reported 1 for each model and seed, with a note.

    Returns:
        Per protocol each model's metrics: their mean over seeds, the 95 % interval over users, and each seed's; the
        paired differences of the networks, with a sentence; and what it was all made from.
    """
    return {
        "dataset": run.root.name,
        "counts": {name: pq.ParquetFile(run.tables / f"{name}.parquet").metadata.num_rows for name in COUNTED},
        "seeds": seeds,
        "device": device_name(device),
        "versions": package_versions(),
        "protocols": {protocol: _compare(run, protocol, seeds, device, advance) for protocol in protocols},
    }


def _compare(run: Run, protocol: str, seeds: list[int], device: torch.device, advance: Advance) -> dict[str, Any]:
    features = load_features(run, protocol)
    rows = training_rows(run, protocol)
    judged: dict[str, list[Judged]] = {}
    seconds: dict[str, float] = {}
    for name in registry.rivals_for(rows):
        judged[name], seconds[name] = _networks(run, features, name, seeds, device, advance)
    first = next(iter(NETWORKS))
    known = known_to(registry.chosen_settings(run, protocol, first, rows).settings)
    for name, baseline in registry.baselines_for(protocol, rows, run.tables).items():
        chosen = seeds if baseline.uses_chance else seeds[:1]
        scorers = (fitted_baseline(run, name, features, known, seed) for seed in chosen)
        judged[name] = [_tested(scorer, features, seeds[0]) for scorer in scorers]
        advance(1, f"{protocol}, {name}")
    return {
        "seeds": seeds,
        **origin(run, protocol, device),
        "trained_on": list(known),
        "models": {
            name: {**summary(parts, seeds[0]), "train_seconds": seconds.get(name, 0.0)}
            for name, parts in judged.items()
        },
        **differences(protocol, {name: judged[name] for name in registry.compared()}, seeds),
    }


def origin(run: Run, protocol: str, device: torch.device) -> dict[str, str]:
    """What a protocol's results are made from, but for the seeds.

    Returns:
        `data`, the fingerprint of its features, and `made_from`, that of every model's settings, of the code and of the
        kind of device.

    Raises:
        UserError: there are no features.
    """
    features = read_manifest(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))["fingerprint"]
    rows = training_rows(run, protocol)
    names = (*registry.rivals_for(rows), *registry.baselines_for(protocol, rows, run.tables))
    made_from = fingerprint(
        settings={name: asdict(registry.chosen_settings(run, protocol, name, rows).settings) for name in names},
        code=stage_code(ROOMS, LIBRARIES, NETWORKS, BASELINES, {protocol: PROTOCOLS[protocol]}, METRICS),
        device=device.type,
    )
    return {"data": features, "made_from": made_from}


def kept(run: Run, path: Path, asked: Sequence[str], device: torch.device) -> tuple[dict[str, Any], list[str]]:
    """What a file holds of other protocols than those that are asked about, as far as it still holds true.

    Returns:
        The results by protocol, and a sentence on each, and on each that is dropped.

    Raises:
        UserError: the file is there, and is not what `compare` writes.
    """
    if not path.is_file():
        return {}, []
    before = read_json(path, run.command("compare"))
    protocols = before.get("protocols") if isinstance(before, dict) else None
    if not isinstance(protocols, dict) or not all(isinstance(one, dict) for one in protocols.values()):
        raise UserError(f"{path} is not what compare writes; delete it, or choose another file with --out")
    results, sentences = {}, []
    for name in (name for name in protocols if name not in asked):
        reason = _stale(run, before.get("dataset"), name, protocols[name], device)
        if not reason:
            results[name] = protocols[name]
        sentences.append(f"{path}: {name} is dropped, as {reason}" if reason else f"{path}: keeps {name} as it is")
    return results, sentences


def _stale(run: Run, dataset: Any, protocol: str, judged: dict[str, Any], device: torch.device) -> str:
    """Why a protocol's results do not hold any more; empty where they do."""
    if dataset != run.root.name:
        return f"it is of the dataset {dataset}"
    if protocol not in PROTOCOLS:
        return "there is no such protocol"
    try:
        now = origin(run, protocol, device)
    except UserError:
        return "its features are not there any more"
    if "data" not in judged:
        return "it does not say which data it is of"
    if judged["data"] != now["data"]:
        return "the data have changed since"
    return "" if judged.get("made_from") == now["made_from"] else "settings, code or device have changed since"


def merged(found: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the results of other protocols, in the order of the protocols."""
    protocols = {**others, **found["protocols"]}
    return {**found, "protocols": {name: protocols[name] for name in PROTOCOLS if name in protocols}}


def steps(run: Run, protocols: tuple[str, ...], seeds: int) -> int:
    """How often `compare` will report that a model is done."""
    rows = {protocol: training_rows(run, protocol) for protocol in protocols}
    return sum(
        len(registry.rivals_for(rows[p])) * seeds + len(registry.baselines_for(p, rows[p], run.tables))
        for p in protocols
    )


def _networks(
    run: Run, features: Features, name: str, seeds: list[int], device: torch.device, advance: Advance
) -> tuple[list[Judged], float]:
    """A network's judgements, a seed each, and the mean seconds that its training took."""
    protocol = PROTOCOLS[features.protocol]
    settings = registry.chosen_settings(run, protocol.name, name, training_rows(run, protocol.name)).settings
    judged, seconds = [], []
    for seed in seeds:
        folder = run.of_seed(protocol.name, name, seed)
        train(run, protocol.name, name, replace(settings, seed=seed), device, lambda *_: None, target=folder)
        model, config = load(run, features, name, device, folder)
        scorer = trained_scorer(model, features, known_to(settings), device)
        judged.append(_tested(scorer, features, seeds[0]))
        seconds.append(config.train_seconds)
        value = judged[-1][0].means()[protocol.deciding]
        figure = "undefined" if value is None else f"{value:.4f}"
        advance(1, f"{protocol.name}, {name}, seed {seed}: {protocol.deciding} {figure}")
    return judged, round(float(np.mean(seconds)), 3)


def _tested(scorer: Scorer, features: Features, seed: int) -> Judged:
    """A model's judgements, without the tables that `evaluate` keeps: there are many seeds to hold."""
    return [replace(part, kept=()) for part in PROTOCOLS[features.protocol].test(scorer, features, seed)]


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


def differences(protocol: str, judged: dict[str, list[Judged]], seeds: list[int]) -> dict[str, Any]:
    """Every two compared networks: the paired difference of each deciding metric, and what it says in a sentence.

    Args:
        judged: each network's judgements, one for each seed.

    Returns:
        `<one>_minus_<other>` for each pair, and `verdict`, a sentence for each. Where a metric cannot be compared, its
        difference is None, with the reason under `undefined`.
    """
    asked = PROTOCOLS[protocol]
    metric = asked.metrics[asked.deciding]
    found: dict[str, Any] = {}
    sentences = []
    for one, other in combinations(judged, 2):
        names = (asked.deciding, *asked.also_compared)
        pair = {name: _difference(name, judged[one], judged[other], seeds[0]) for name in names}
        found[f"{one}_minus_{other}"] = {name: _as_json(difference) for name, difference in pair.items()}
        titles = NETWORKS[one].title, NETWORKS[other].title
        decides = pair[asked.deciding]
        if isinstance(decides, str):
            sentences.append(f"{titles[0]} and {titles[1]} cannot be compared by {metric.title}: {decides}.")
        else:
            sentences.append(verdict(*titles, metric.title, decides, metric.higher_is_better, len(seeds)))
    return {**found, "verdict": " ".join(sentences)}


def _as_json(difference: Difference | str) -> dict[str, Any]:
    if isinstance(difference, str):
        return {"value": None, "low": None, "high": None, "p": None, "undefined": difference}
    return {"value": difference.value, "low": difference.low, "high": difference.high, "p": difference.p_value}


def _difference(metric: str, one: list[Judged], other: list[Judged], seed: int) -> Difference | str:
    """The paired difference of two models, or why there is none."""
    ones, others = [parts[0] for parts in one], [parts[0] for parts in other]
    reasons = {key: reason for part in (*ones, *others) for key, reason in part.undefined().items()}
    reason = reasons.get(metric) or reasons.get(CI95)
    if reason:
        return reason
    if isinstance(ones[0], PerUser):
        values = [[part.values[metric] for part in parts if isinstance(part, PerUser)] for parts in (ones, others)]
        return paired_difference(np.mean(values[0], axis=0), np.mean(values[1], axis=0), seed)
    first, second = ([p.statistics[metric] for p in parts if isinstance(p, PerRow)] for parts in (ones, others))
    return paired_row_difference(first, second, ones[0].owner, seed)
