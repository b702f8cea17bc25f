"""Several training seeds of everything: how good each model is, how sure that is, and which of DLRM and NCF is better.

The split and the test questions stay the same; what a seed changes is weights, order, dropout and negatives. Every seed
scores the test set once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from core.artifacts import package_versions
from core.json_files import read_json
from core.run_folder import ALL_PROTOCOLS, MODELS, RATING_PROTOCOL, TRAINED, Run
from models.data.features import Features, load_features
from models.evaluation.evaluate import fitted_rule
from models.evaluation.judgement import PerRating, PerRow, PerUser, judge
from models.evaluation.paired import (
    Difference,
    paired_auc_difference,
    paired_difference,
    paired_rmse_difference,
    verdict,
)
from models.networks.scoring import contender
from models.registry import chosen_settings, rules_for
from models.training.train import device_name, known_to, load, train, training_rows

COUNTED = ("ratings", "users", "movies")
Judged = list[PerUser | PerRow | PerRating]
# What each protocol is decided by, and whether more is better.
DECIDING = {
    "leave-one-out": ("HR@10", "hr@10", True),
    "random-split": ("AUC", "auc", True),
    RATING_PROTOCOL: ("RMSE", "rmse", False),
}
Advance = Callable[[float, str], None]


def compare(
    run: Run, protocols: tuple[str, ...], seeds: list[int], device: torch.device, advance: Advance
) -> dict[str, Any]:
    """Trains and judges every model with every seed.

    Args:
        advance: told 1 for each model and seed, with a note.

    Returns:
        Per protocol each model's metrics: their mean over seeds, the 95 % interval over users, and each seed's; and
        the paired difference of DLRM and NCF, with a sentence.
    """
    found: dict[str, Any] = {}
    for protocol in protocols:
        features = load_features(run, protocol)
        judged: dict[str, list[Judged]] = {}
        seconds: dict[str, float] = {}
        for name in TRAINED:
            judged[name], seconds[name] = _neural(run, features, name, seeds, device, advance)
        rows = training_rows(run, protocol)
        known = known_to(chosen_settings(run, protocol, TRAINED[0], rows))
        for name, baseline in rules_for(protocol, rows).items():
            chosen = seeds if baseline.uses_chance else seeds[:1]
            judged[name] = [
                judge(fitted_rule(run, name, features, known, rows, seed), features, seeds[0]) for seed in chosen
            ]
            advance(1, f"{protocol}, {name}")
        found[protocol] = {
            "trained_on": list(known),
            "models": {
                name: {**summary(parts, seeds[0]), "train_seconds": seconds.get(name, 0.0)}
                for name, parts in judged.items()
            },
            **differences(protocol, judged[MODELS[0]], judged[MODELS[1]], seeds),
        }
    return {
        "dataset": run.root.name,
        "counts": {name: pq.ParquetFile(run.tables / f"{name}.parquet").metadata.num_rows for name in COUNTED},
        "seeds": seeds,
        "device": device_name(device),
        "versions": package_versions(),
        "protocols": found,
    }


def merged(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the other protocols that the file already holds of the same dataset and seeds."""
    before = read_json(path) if path.is_file() else {}
    same = isinstance(before, dict) and all(before.get(key) == found[key] for key in ("dataset", "seeds"))
    protocols = {**(before["protocols"] if same else {}), **found["protocols"]}
    return {**found, "protocols": {name: protocols[name] for name in ALL_PROTOCOLS if name in protocols}}


def steps(run: Run, protocols: tuple[str, ...], seeds: int) -> int:
    """How often `compare` will tell that a model is done."""
    return sum(len(TRAINED) * seeds + len(rules_for(p, training_rows(run, p))) for p in protocols)


def _neural(
    run: Run, features: Features, name: str, seeds: list[int], device: torch.device, advance: Advance
) -> tuple[list[Judged], float]:
    """A model's judgements, a seed each, and the mean seconds that its training took."""
    protocol = features.protocol
    settings = chosen_settings(run, protocol, name, training_rows(run, protocol))
    judged, seconds = [], []
    for seed in seeds:
        folder = run.of_seed(protocol, name, seed)
        train(run, protocol, name, replace(settings, seed=seed), device, lambda *_: None, folder)
        model, config = load(run, features, name, device, folder)
        judged.append(judge(contender(model, features, known_to(settings), device), features, seeds[0]))
        seconds.append(config["train_seconds"])
        deciding = DECIDING[protocol][1]
        advance(1, f"{protocol}, {name}, seed {seed}: {deciding} {judged[-1][0].means()[deciding]:.4f}")
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
    kinds = zip(*judged)
    return [
        [
            PerUser({key: np.mean([part.values[key] for part in parts], axis=0) for key in parts[0].values})
            for parts in kinds
        ]
    ]


def differences(protocol: str, one: list[Judged], other: list[Judged], seeds: list[int]) -> dict[str, Any]:
    """DLRM against NCF: the paired difference of each deciding metric, and what it says in a sentence."""
    title, metric, more_is_better = DECIDING[protocol]
    found = {metric: _difference(metric, one, other, seeds[0])}
    if protocol == "leave-one-out":
        found["ndcg@10"] = _difference("ndcg@10", one, other, seeds[0])
    sentence = verdict("DLRM", "NCF", title, found[metric], more_is_better, len(seeds))
    as_json = {key: {"value": d.value, "low": d.low, "high": d.high, "p": d.p_value} for key, d in found.items()}
    return {"dlrm_minus_ncf": as_json, "verdict": sentence}


def _difference(metric: str, one: list[Judged], other: list[Judged], seed: int) -> Difference:
    first = one[0][0]
    if isinstance(first, PerUser):
        ones, others = ([parts[0].values[metric] for parts in judged] for judged in (one, other))  # type: ignore[union-attr]
        return paired_difference(np.mean(ones, axis=0), np.mean(others, axis=0), seed)
    part = "score" if isinstance(first, PerRow) else "predicted"
    first_model, second = (np.stack([getattr(parts[0], part) for parts in judged]) for judged in (one, other))
    if isinstance(first, PerRow):
        return paired_auc_difference(first.label, first_model, second, first.owner, seed)
    return paired_rmse_difference(first.stars, first_model, second, first.owner, seed)
