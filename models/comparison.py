"""Every trained model and baseline, judged once on the test sets, into `evaluation.json`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from marquee.manifest import fingerprint, read_manifest, source_digest, verify
from marquee.runs import MODELS, PROTOCOLS, Run
from models.baselines import Biases, Popularity, Truth
from models.data import Features, load_features
from models.evaluation import test_result
from models.results import made_from, read_results, write_results
from models.training import load, scorer

BASELINES: dict[str, dict[str, type[Popularity] | type[Biases]]] = {
    "leave-one-out": {"popularity": Popularity},
    "random-split": {"popularity": Popularity, "biases": Biases},
}
RESULTS = len(MODELS) * len(PROTOCOLS) + sum(len(rules) for rules in BASELINES.values())


def results_expected(run: Run) -> int:
    """How many results `evaluate` will give."""
    return RESULTS + (len(PROTOCOLS) if run.has_truth else 0)


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
    models = {
        f"{protocol}/{name}": verify(run.model(protocol, name), "train")["files"]
        for protocol in PROTOCOLS
        for name in MODELS
    }
    features = {protocol: read_manifest(run.features / protocol, "prepare")["fingerprint"] for protocol in PROTOCOLS}
    origin = fingerprint(models=models, features=features, code=source_digest("models"))
    if made_from(run) == origin:
        read_results(run)
        return False
    results = [result for protocol in PROTOCOLS for result in _results(run, protocol, device, advance)]
    write_results(run, results, origin)
    return True


def _results(
    run: Run, protocol: str, device: torch.device, advance: Callable[[float, str], None]
) -> Iterator[dict[str, Any]]:
    features = load_features(run, protocol)
    seed = 0
    for name in MODELS:
        model, config = load(run, features, name, device)
        seed = config["seed"]
        yield test_result(name, scorer(model, device), features, seed, True, config)
        advance(1, f"{name}, {protocol}")
    for name, rule in _rules(run, features):
        yield test_result(name, rule, features, seed, rule.is_probability, {})
        advance(1, f"{name}, {protocol}")


def _rules(run: Run, features: Features) -> Iterator[tuple[str, Popularity | Biases | Truth]]:
    train = features.interactions("train")
    for name, baseline in BASELINES[features.protocol].items():
        yield name, baseline(train, features.users, features.movies)
    del train
    if run.has_truth:
        yield "truth", Truth(run.tables, features)
