"""Every trained model and baseline, judged once on the test sets, into `evaluation.json`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from core.artifacts import code_digest, fingerprint, read_manifest, verify
from core.errors import UserError
from core.run_folder import MODELS, PROTOCOLS, RATING_PROTOCOL, TRAINED, Run
from models.data.features import Features, load_features
from models.evaluation.judgement import Contender, test_result
from models.evaluation.results import made_from, read_results, write_results
from models.networks.scoring import contender
from models.registry import chosen_settings, fit_baseline, rules_for
from models.training.train import load, training_rows


def judged_protocols(run: Run) -> list[str]:
    """The protocols that any model is trained for.

    Raises:
        UserError: there is none.
    """
    found = [p for p in PROTOCOLS if any(run.model(p, name).is_dir() for name in TRAINED)]
    if any(_is_of_these_features(run, RATING_PROTOCOL, name) for name in TRAINED):
        found.append(RATING_PROTOCOL)
    if not found:
        raise UserError(f"no model is trained in {run.root}; run: {run.command('train')}")
    return found


def judged_models(run: Run, protocol: str) -> list[str]:
    """The models of a protocol: DLRM and NCF, and what `run` can do without where it is there."""
    needed = MODELS if protocol in PROTOCOLS else ()
    return [name for name in TRAINED if name in needed or _is_of_these_features(run, protocol, name)]


def _is_of_these_features(run: Run, protocol: str, name: str) -> bool:
    """Whether a model that `run` can do without is there, and not left over from features that are no more."""
    folder = run.model(protocol, name)
    if not folder.is_dir():
        return False
    features = read_manifest(run.features_of(protocol), run.command("prepare"))["fingerprint"]
    return bool(read_manifest(folder, run.command("train")).get("features") == features)


def results_expected(run: Run) -> int:
    """How many results `evaluate` will give."""
    return sum(
        len(judged_models(run, protocol)) + len(rules_for(protocol, training_rows(run, protocol), run.tables))
        for protocol in judged_protocols(run)
    )


def evaluate(run: Run, device: torch.device, advance: Callable[[float, str], None]) -> bool:
    """Writes `evaluation.json`; scores nothing again where nothing has changed.

    A made-up dataset brings its truth: it is judged with the others, as the best that any model can reach.

    Args:
        advance: told 1 and the name of each result as it is done.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: a model or its features are missing or changed.
    """
    protocols = judged_protocols(run)
    models = {
        f"{protocol}/{name}": verify(run.model(protocol, name), run.command("train"))["files"]
        for protocol in protocols
        for name in judged_models(run, protocol)
    }
    features = {
        protocol: read_manifest(run.features_of(protocol), run.command("prepare"))["fingerprint"]
        for protocol in protocols
    }
    origin = fingerprint(
        models=models,
        features=features,
        code=code_digest(("models",), ("torch", "numpy", "scipy", "implicit", "scikit-learn")),
    )
    if made_from(run) == origin:
        read_results(run)
        return False
    results = [result for protocol in protocols for result in _results(run, protocol, device, advance)]
    write_results(run, results, origin)
    return True


def _results(
    run: Run, protocol: str, device: torch.device, advance: Callable[[float, str], None]
) -> Iterator[dict[str, Any]]:
    features = load_features(run, protocol)
    seed, known = 0, ("train",)
    for name in judged_models(run, protocol):
        model, config = load(run, features, name, device)
        seed, known = config["seed"], tuple(config["trained_on"])
        yield test_result(name, contender(model, features, known, device), features, seed, config)
        advance(1, f"{name}, {protocol}")
    for name, rule in _rules(run, features, known, seed):
        yield test_result(name, rule, features, seed, {})
        advance(1, f"{name}, {protocol}")


def _rules(run: Run, features: Features, known: tuple[str, ...], seed: int) -> Iterator[tuple[str, Contender]]:
    rows = training_rows(run, features.protocol)
    for name in rules_for(features.protocol, rows, run.tables):
        yield name, fitted_rule(run, name, features, known, rows, seed)


def fitted_rule(run: Run, name: str, features: Features, known: tuple[str, ...], rows: int, seed: int) -> Contender:
    """A rule of the features' protocol with its settings, fitted to the splits that the models were trained on."""
    settings = chosen_settings(run, features.protocol, name, rows)
    return Contender.of_rule(fit_baseline(name, features, known, settings, seed, tables=run.tables))
