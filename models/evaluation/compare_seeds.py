"""The command `compare`: several training seeds of everything, how sure a metric is, and which model is better.

The test questions of a split stay the same; what a seed changes is weights, order, dropout and negatives. Every seed
scores the test set once. Where the split is random, several can be judged, each with every seed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from core.artifacts import fingerprint, package_versions, read_manifest
from core.run_folder import Run
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES
from models.data.features import Features
from models.data.load import load_features, rows_of, training_rows
from models.evaluation import evaluate
from models.evaluation.evaluate import fitted_baseline, trained_scorer
from models.evaluation.judgement import Scorer
from models.evaluation.metrics.base import METRICS
from models.evaluation.pairs import Found, Judged, Pair, all_pairs, as_json, joined, sentences
from models.evaluation.summaries import summary, summary_over_splits
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.training.devices import device_name
from models.training.settings import TrainSettings
from models.training.train import known_to, load, train

COUNTED = ("ratings", "users", "movies")
ROOMS = (
    *evaluate.ROOMS,
    "models/evaluation/compare_seeds.py",
    "models/evaluation/over_splits.py",
    "models/evaluation/paired.py",
    "models/evaluation/pairs.py",
    "models/evaluation/summaries.py",
    "models/training/calibration.py",
    "models/training/checkpoint.py",
    "models/training/devices.py",
    "models/training/epoch.py",
    "models/training/frameworks.py",
    "models/training/loop.py",
    "models/training/objective.py",
    "models/training/pretrain.py",
    "models/training/rowwise.py",
    "models/training/several.py",
    "workflows/negatives.py",
)
LIBRARIES = (*evaluate.LIBRARIES, "merlin-core", "merlin-dataloader", "numba")
Advance = Callable[[float, str], None]
NO_OTHERS: Mapping[str, Sequence[Run]] = {}  # splits


@dataclass(frozen=True, kw_only=True)
class _OfSplit:
    """What was found on one split: each model's `summary`, its seconds of training, and the differences."""

    models: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    pairs: dict[Pair, dict[str, Found]]


def compare(
    run: Run,
    protocols: tuple[str, ...],
    seeds: list[int],
    device: torch.device,
    advance: Advance,
    others: Mapping[str, Sequence[Run]] = NO_OTHERS,
    among: Collection[str] = (),
) -> dict[str, Any]:
    """Trains and judges every model with every seed, on every split.

    Args:
        advance: reported 1 for each model, seed and split, with a note.
        others: runs of other random splits of the same ratings, prepared, by protocol; one without is judged on its
            own split alone.
        among: the networks that are asked for; empty for all. Baselines are always judged.

    Returns:
        Per protocol each model's metrics: their mean over seeds and splits, the 95 % interval, and each seed's; the
        paired differences of all models, with sentences; and what it was all made from. With one split an interval
        covers the users, with several the training seeds and splits too.
    """
    return {
        "dataset": run.root.name,
        "counts": {name: pq.ParquetFile(run.tables / f"{name}.parquet").metadata.num_rows for name in COUNTED},
        "seeds": seeds,
        "device": device_name(device),
        "versions": package_versions(),
        "protocols": {
            protocol: _compare((run, *others.get(protocol, ())), protocol, seeds, device, advance, among)
            for protocol in protocols
        },
    }


def _compare(
    runs: Sequence[Run],
    protocol: str,
    seeds: list[int],
    device: torch.device,
    advance: Advance,
    among: Collection[str],
) -> dict[str, Any]:
    """A protocol's part of the file, from the run and those of other splits."""
    run = runs[0]
    rows = training_rows(run, protocol)
    first = registry.networks_of(protocol)[0]
    known = known_to(registry.chosen_settings(run, protocol, first, rows).settings)
    names = registry.rivals_for(protocol, rows, among)
    found = [_of_split(run, one, protocol, names, seeds, known, device, advance) for one in runs]
    tested = rows_of(run, protocol, ("test",)) / max(1, rows_of(run, protocol, known))
    judged = {
        "seeds": seeds,
        "splits": [int(_manifest(one, protocol)["seed"]) for one in runs],
        **origin(run, protocol, device),
        "trained_on": list(known),
        "models": {
            name: {
                **summary_over_splits([one.models[name] for one in found], tested),
                "train_seconds": round(float(np.mean([one.seconds.get(name, 0.0) for one in found])), 3),
            }
            for name in found[0].models
        },
        **as_json(protocol, joined([one.pairs for one in found], tested)),
    }
    return {**judged, "verdict": sentences(protocol, judged, registry.compared(protocol))}


def _of_split(
    run: Run,
    split: Run,
    protocol: str,
    names: Sequence[str],
    seeds: list[int],
    known: tuple[str, ...],
    device: torch.device,
    advance: Advance,
) -> _OfSplit:
    """Trains and judges models on one split, with the settings of the run.

    Args:
        names: of the networks.
        split: the run of the split, which is `run` itself where it is the one that is prepared there.
    """
    features = load_features(split, protocol)
    rows = training_rows(run, protocol)
    judged: dict[str, list[Judged]] = {}
    seconds: dict[str, float] = {}
    for name in names:
        judged[name], seconds[name] = _networks(run, split, features, name, seeds, device, advance)
    for name, baseline in registry.baselines_for(protocol, rows, run.tables).items():
        chosen = seeds if baseline.uses_chance else seeds[:1]
        scorers = (fitted_baseline(run, name, features, known, seed) for seed in chosen)
        judged[name] = [_tested(scorer, features, seeds[0]) for scorer in scorers]
        advance(1, f"{protocol}, {name}")
    return _OfSplit(
        models={name: summary(parts, seeds[0]) for name, parts in judged.items()},
        seconds=seconds,
        pairs=all_pairs(judged, protocol, seeds[0]),
    )


def origin(run: Run, protocol: str, device: torch.device) -> dict[str, str]:
    """What a protocol's results are made from, but for the seeds.

    Returns:
        `data`, the fingerprint of its features, and `made_from`, that of every model's settings, of the code and of the
        kind of device.

    Raises:
        UserError: there are no features.
    """
    features = _manifest(run, protocol)["fingerprint"]
    rows = training_rows(run, protocol)
    names = (*registry.rivals_for(protocol, rows), *registry.baselines_for(protocol, rows, run.tables))
    made_from = fingerprint(
        settings={name: asdict(registry.chosen_settings(run, protocol, name, rows).settings) for name in names},
        code=stage_code(ROOMS, LIBRARIES, NETWORKS, BASELINES, {protocol: PROTOCOLS[protocol]}, METRICS),
        device=device.type,
    )
    return {"data": features, "made_from": made_from}


def _manifest(run: Run, protocol: str) -> dict[str, Any]:
    return read_manifest(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))


def steps(
    run: Run,
    protocols: tuple[str, ...],
    seeds: int,
    others: Mapping[str, Sequence[Run]] = NO_OTHERS,
    among: Collection[str] = (),
) -> int:
    """How often `compare` will report that a model is done; arguments as there, but `seeds` says how many."""
    rows = {protocol: training_rows(run, protocol) for protocol in protocols}
    return sum(
        (len(registry.rivals_for(p, rows[p], among)) * seeds + len(registry.baselines_for(p, rows[p], run.tables)))
        * (1 + len(others.get(p, ())))
        for p in protocols
    )


@dataclass(frozen=True)
class ToTrain:
    """A network that `compare` needs.

    Attributes:
        split: the run of the split.
        settings: with the seed.
        target: the folder of the trained model.
    """

    split: Run
    protocol: str
    name: str
    settings: TrainSettings
    target: Path


def to_train(
    run: Run,
    protocols: Sequence[str],
    seeds: Sequence[int],
    others: Mapping[str, Sequence[Run]] = NO_OTHERS,
    among: Collection[str] = (),
) -> list[ToTrain]:
    """Every network that `compare` needs, of every seed and split, trained already or not; arguments as there."""
    return [
        _to_train(run, split, protocol, name, seed)
        for protocol in protocols
        for split in (run, *others.get(protocol, ()))
        for name in registry.rivals_for(protocol, training_rows(run, protocol), among)
        for seed in seeds
    ]


def _to_train(run: Run, split: Run, protocol: str, name: str, seed: int) -> ToTrain:
    settings = registry.chosen_settings(run, protocol, name, training_rows(run, protocol)).settings
    return ToTrain(split, protocol, name, replace(settings, seed=seed), split.of_seed(protocol, name, seed))


def _networks(
    run: Run,
    split: Run,
    features: Features,
    name: str,
    seeds: list[int],
    device: torch.device,
    advance: Advance,
) -> tuple[list[Judged], float]:
    """A network's judgements, a seed each, and the mean seconds that its training took."""
    protocol = PROTOCOLS[features.protocol]
    judged, seconds = [], []
    for seed in seeds:
        one = _to_train(run, split, protocol.name, name, seed)
        train(split, protocol.name, name, one.settings, device, lambda *_: None, target=one.target)
        model, config = load(split, features, name, device, one.target)
        scorer = trained_scorer(model, features, known_to(one.settings), device)
        judged.append(_tested(scorer, features, seeds[0]))
        seconds.append(config.train_seconds)
        value = next(part.means()[protocol.deciding] for part in judged[-1] if protocol.deciding in part.names)
        figure = "undefined" if value is None else f"{value:.4f}"
        advance(1, f"{protocol.name}, {name}, seed {seed}: {protocol.deciding} {figure}")
    return judged, round(float(np.mean(seconds)), 3)


def _tested(scorer: Scorer, features: Features, seed: int) -> Judged:
    """A model's judgements, without the tables that `evaluate` keeps: there are many seeds to hold."""
    return [replace(part, kept=()) for part in PROTOCOLS[features.protocol].test(scorer, features, seed)]
