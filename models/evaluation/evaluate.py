"""The command `evaluate`: every trained network and every baseline, scored once on the test sets."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from core.artifacts import fingerprint, is_current, new_folder, package_versions, read_manifest, verify
from core.errors import UserError
from core.run_folder import Run
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation.judgement import Judgement, Scorer, left_out_and_undefined, scorer_of
from models.evaluation.kept_files import write_kept
from models.evaluation.metrics.base import METRICS
from models.evaluation.results import Result, made_from, model_digest, read_results, write_results
from models.evaluation.scorers import network_scorer, past_of
from models.evaluation.slices import TrainingCounts, coverage_of, slices_of
from models.networks.base import NETWORKS, Recommender
from models.protocols.base import PROTOCOLS
from models.training.loop import FIT
from models.training.settings import LARGE
from models.training.train import TrainedConfig, load

ROOMS = (
    "core/constants.py",
    "models/baselines",
    "models/data",
    "models/evaluation/bootstrap.py",
    "models/evaluation/classes.py",
    "models/evaluation/coverage.py",
    "models/evaluation/evaluate.py",
    "models/evaluation/judgement.py",
    "models/evaluation/kept.py",
    "models/evaluation/kept_files.py",
    "models/evaluation/metrics",
    "models/evaluation/ranking.py",
    "models/evaluation/results.py",
    "models/evaluation/scorers.py",
    "models/evaluation/slices.py",
    "models/networks",
    "models/protocols",
    "models/registry.py",
    "models/training/settings.py",
    "models/training/train.py",
    "workflows/features/config.py",
    "workflows/features/schema.py",
    "workflows/features/statistics.py",
    "workflows/features/vocabulary.py",
    "workflows/splits/base.py",
    "workflows/synthetic/files.py",
    "workflows/synthetic/truth.py",
)
LIBRARIES = ("torch", "merlin-models", "numpy", "scipy", "scikit-learn", "implicit", "myfm")
Advance = Callable[[float, str], None]


def judged_protocols(run: Run) -> list[str]:
    """The protocols that any model is trained for.

    Raises:
        UserError: there is none.
    """
    found = [protocol for protocol in PROTOCOLS if registry.trained(run, protocol)]
    if not found:
        raise UserError(f"no model is trained in {run.root}; run: {run.command('train')}")
    return found


def threads_for_scoring(run: Run) -> int:
    """As many as the run's models were trained with: what scores a few users at a time gains nothing from more."""
    rows = max(training_rows(run, protocol) for protocol in judged_protocols(run))
    return (os.cpu_count() or 1) if rows >= LARGE else 1


def results_expected(run: Run) -> int:
    """How many results `evaluate` will give."""
    return sum(
        len(registry.trained(run, protocol))
        + len(registry.baselines_in_run(protocol, training_rows(run, protocol), run.tables))
        for protocol in judged_protocols(run)
    )


def evaluate(run: Run, device: torch.device, advance: Advance) -> bool:
    """Writes `evaluation.json`, and in `evaluation/` the ranks, lists and scores of rows that pictures are drawn from.

    Scores nothing again where nothing has changed. A process that is killed leaves both as they were, or what the next
    call makes again.

    A synthetic dataset brings its truth: it is judged with the others, as the best that any model can reach.

    Args:
        advance: reported 1 and the name of each result as it is done.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: a model or its features are missing or changed.
    """
    protocols = judged_protocols(run)
    models = _models(run, protocols)
    origin = _fingerprint(run, protocols, models)
    if made_from(run) == origin and is_current(run.judged, origin):
        read_results(run)
        return False
    with new_folder(run.judged, origin) as out:
        results = [result for name in protocols for result in _results(run, name, device, advance, out / name)]
    write_results(run, results, origin, {name: model_digest(files) for name, files in models.items()})
    return True


def _models(run: Run, protocols: list[str]) -> dict[str, dict[str, str]]:
    """The trained networks by protocol/name, each with the SHA-256 of its files."""
    return {
        f"{protocol}/{name}": verify(run.model(protocol, name), run.command("train"))["files"]
        for protocol in protocols
        for name in registry.trained(run, protocol)
    }


def _fingerprint(run: Run, protocols: list[str], models: dict[str, dict[str, str]]) -> str:
    features = {
        protocol: read_manifest(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))["fingerprint"]
        for protocol in protocols
    }
    rows = {protocol: training_rows(run, protocol) for protocol in protocols}
    baselines = {
        f"{protocol}/{name}": registry.chosen_settings(run, protocol, name, rows[protocol]).settings
        for protocol in protocols
        for name in registry.baselines_in_run(protocol, rows[protocol], run.tables)
    }
    metrics = {protocol: list(PROTOCOLS[protocol].metrics) for protocol in protocols}
    code = stage_code(ROOMS, LIBRARIES, NETWORKS, BASELINES, PROTOCOLS, METRICS)
    return fingerprint(models=models, features=features, baselines=baselines, metrics=metrics, code=code)


def _results(run: Run, protocol: str, device: torch.device, advance: Advance, out: Path) -> Iterator[Result]:
    """A protocol's results; `out` is a folder to keep in what pictures need of each model."""
    features = load_features(run, protocol)
    counts = TrainingCounts.of(features)
    seed = 0
    known: tuple[str, ...] = FIT
    for name in registry.trained(run, protocol):
        model, config = load(run, features, name, device)
        seed, known = config.seed, tuple(config.trained_on)
        scorer = trained_scorer(model, features, known, device)
        yield judged(name, scorer, features, seed, config, out / name, counts)
        advance(1, f"{name}, {protocol}")
    rows = training_rows(run, protocol)
    for name in registry.baselines_in_run(protocol, rows, run.tables):
        scorer = fitted_baseline(run, name, features, known, seed)
        yield judged(name, scorer, features, seed, None, out / name, counts)
        advance(1, f"{name}, {protocol}")


def trained_scorer(model: Recommender, features: Features, known: tuple[str, ...], device: torch.device) -> Scorer:
    """A trained network, as the test set asks it.

    Args:
        known: the splits that it was trained on, whose ratings it may know of.
    """
    return network_scorer(model, device, features.protocol, past_of(model, features, known))


def fitted_baseline(run: Run, name: str, features: Features, known: tuple[str, ...], seed: int) -> Scorer:
    """A baseline of the features' protocol with its settings, fitted to the splits that the networks learned from."""
    chosen = registry.chosen_settings(run, features.protocol, name, training_rows(run, features.protocol))
    return scorer_of(registry.fit_baseline(name, features, known, chosen.settings, seed, run.tables))


def judged(
    name: str,
    scorer: Scorer,
    features: Features,
    seed: int,
    training: TrainedConfig | None,
    out: Path | None = None,
    counts: TrainingCounts | None = None,
) -> Result:
    """Scores the test set of a protocol: one entry of `evaluation.json`.

    Args:
        seed: of what is drawn where there is too much to ask, and of the bootstrap.
        training: how the model was trained, if it was.
        out: a new folder for what pictures need; None to keep nothing.
        counts: the features' training ratings; None to count them here.
    """
    parts: list[Judgement] = PROTOCOLS[features.protocol].test(scorer, features, seed)
    if out:
        write_kept(out, parts, features, seed)
    asked: dict[str, Any] = {part.counted_as: part.count for part in parts}
    intervals = {key: pair for part in parts for key, pair in part.intervals(seed).items()}
    return Result(
        model=name,
        protocol=features.protocol,
        metrics={key: value for part in parts for key, value in part.means().items()},
        ci95={key: (pair[0], pair[1]) if pair else None for key, pair in intervals.items()},
        seed=seed,
        epochs=training.epochs if training else 0,
        train_seconds=training.train_seconds if training else 0.0,
        samples_per_second=training.samples_per_second if training else 0,
        slices=slices_of(features.protocol, parts, counts or TrainingCounts.of(features)),
        coverage=coverage_of(parts, len(features.catalogue)),
        versions=package_versions(),
        **asked,
        **left_out_and_undefined(parts),
    )
