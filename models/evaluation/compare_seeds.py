"""The command `compare`: several training seeds of everything, how sure a metric is, and which network is better.

The split and the test questions stay the same; what a seed changes is weights, order, dropout and negatives. Every seed
scores the test set once.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from core.artifacts import package_versions
from core.json_files import read_json
from core.run_folder import Run
from models import registry
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation.evaluate import fitted_baseline, trained_scorer
from models.evaluation.judgement import Judgement, PerRow, PerUser
from models.evaluation.paired import Difference, paired_difference, paired_row_difference, verdict
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.training.devices import device_name
from models.training.train import known_to, load, train

COUNTED = ("ratings", "users", "movies")
Judged = list[Judgement]  # of one seed
Advance = Callable[[float, str], None]


def compare(
    run: Run, protocols: tuple[str, ...], seeds: list[int], device: torch.device, advance: Advance
) -> dict[str, Any]:
    """Trains and judges every model with every seed.

    Args:
        advance: reported 1 for each model and seed, with a note.

    Returns:
        Per protocol each model's metrics: their mean over seeds, the 95 % interval over users, and each seed's; and
        the paired differences of the networks, with a sentence.
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
    for name in NETWORKS:
        judged[name], seconds[name] = _networks(run, features, name, seeds, device, advance)
    first = next(iter(NETWORKS))
    known = known_to(registry.chosen_settings(run, protocol, first, rows).settings)
    for name, baseline in registry.baselines_for(protocol, rows, run.tables).items():
        chosen = seeds if baseline.uses_chance else seeds[:1]
        scorers = (fitted_baseline(run, name, features, known, seed) for seed in chosen)
        judged[name] = [PROTOCOLS[protocol].test(scorer, features, seeds[0]) for scorer in scorers]
        advance(1, f"{protocol}, {name}")
    return {
        "trained_on": list(known),
        "models": {
            name: {**summary(parts, seeds[0]), "train_seconds": seconds.get(name, 0.0)}
            for name, parts in judged.items()
        },
        **differences(protocol, {name: judged[name] for name in registry.compared()}, seeds),
    }


def merged(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the other protocols that the file already holds of the same dataset and seeds."""
    before = read_json(path) if path.is_file() else {}
    same = isinstance(before, dict) and all(before.get(key) == found[key] for key in ("dataset", "seeds"))
    protocols = {**(before["protocols"] if same else {}), **found["protocols"]}
    return {**found, "protocols": {name: protocols[name] for name in PROTOCOLS if name in protocols}}


def steps(run: Run, protocols: tuple[str, ...], seeds: int) -> int:
    """How often `compare` will report that a model is done."""
    rows = {protocol: training_rows(run, protocol) for protocol in protocols}
    return sum(len(NETWORKS) * seeds + len(registry.baselines_for(p, rows[p], run.tables)) for p in protocols)


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
        judged.append(protocol.test(scorer, features, seeds[0]))
        seconds.append(config.train_seconds)
        value = judged[-1][0].means()[protocol.deciding]
        advance(1, f"{protocol.name}, {name}, seed {seed}: {protocol.deciding} {value:.4f}")
    return judged, round(float(np.mean(seconds)), 3)


def summary(judged: list[Judged], seed: int) -> dict[str, Any]:
    """`metrics`, `ci95` and `per_seed` of a model from its judgements, one for each seed."""
    per_seed = [{key: value for part in parts for key, value in part.means().items()} for parts in judged]
    intervals = [
        {key: pair for part in parts for key, pair in part.intervals(seed).items()} for parts in _over_seeds(judged)
    ]
    return {
        "metrics": {key: float(np.mean([values[key] for values in per_seed])) for key in per_seed[0]},
        "ci95": {key: np.mean([one[key] for one in intervals], axis=0).tolist() for key in intervals[0]},
        "per_seed": {key: [values[key] for values in per_seed] for key in per_seed[0]},
    }


def _over_seeds(judged: list[Judged]) -> list[Judged]:
    """Metrics that are means over users become one judgement, of each user's mean over the seeds."""
    if not isinstance(judged[0][0], PerUser):
        return judged
    found: Judged = []
    for parts in zip(*judged):
        users = [part for part in parts if isinstance(part, PerUser)]
        means = {key: np.mean([part.values[key] for part in users], axis=0) for key in users[0].values}
        found.append(PerUser(means, users[0].counted_as))
    return [found]


def differences(protocol: str, judged: dict[str, list[Judged]], seeds: list[int]) -> dict[str, Any]:
    """Every two compared networks: the paired difference of each deciding metric, and what it says in a sentence.

    Args:
        judged: each network's judgements, one for each seed.

    Returns:
        `<one>_minus_<other>` for each pair, and `verdict`, a sentence for each.
    """
    asked = PROTOCOLS[protocol]
    metric = asked.metrics[asked.deciding]
    found: dict[str, Any] = {}
    sentences = []
    for one, other in combinations(judged, 2):
        names = (asked.deciding, *asked.also_compared)
        pair = {name: _difference(name, judged[one], judged[other], seeds[0]) for name in names}
        found[f"{one}_minus_{other}"] = {
            name: {"value": d.value, "low": d.low, "high": d.high, "p": d.p_value} for name, d in pair.items()
        }
        titles = NETWORKS[one].title, NETWORKS[other].title
        sentences.append(verdict(*titles, metric.title, pair[asked.deciding], metric.higher_is_better, len(seeds)))
    return {**found, "verdict": " ".join(sentences)}


def _difference(metric: str, one: list[Judged], other: list[Judged], seed: int) -> Difference:
    ones, others = [parts[0] for parts in one], [parts[0] for parts in other]
    if isinstance(ones[0], PerUser):
        values = [[part.values[metric] for part in parts if isinstance(part, PerUser)] for parts in (ones, others)]
        return paired_difference(np.mean(values[0], axis=0), np.mean(values[1], axis=0), seed)
    first, second = ([p.statistics[metric] for p in parts if isinstance(p, PerRow)] for parts in (ones, others))
    return paired_row_difference(first, second, ones[0].owner, seed)
