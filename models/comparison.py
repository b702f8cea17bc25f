"""Every trained model and baseline, judged once on the test sets, into `evaluation.json`."""

from collections.abc import Callable
from typing import Any

import torch

from marquee.manifest import fingerprint, read_json, sha256, source_digest, verify, write_json
from marquee.runs import MODELS, PROTOCOLS, Run
from models.baselines import Biases, Popularity
from models.data import load_features
from models.evaluation import test_result
from models.results import read_results
from models.training import load, scorer

BASELINES: dict[str, dict[str, type[Popularity] | type[Biases]]] = {
    "leave-one-out": {"popularity": Popularity},
    "random-split": {"popularity": Popularity, "biases": Biases},
}
RESULTS = len(MODELS) * len(PROTOCOLS) + sum(len(rules) for rules in BASELINES.values())


def evaluate(run: Run, device: torch.device, advance: Callable[[float, str], None]) -> list[dict[str, Any]]:
    """Writes `evaluation.json` and returns what is in it; scores nothing again where nothing has changed.

    Args:
        advance: told 1 and the name of each result as it is done.

    Raises:
        UserError: a model or its features are missing or changed.
    """
    models = {
        f"{protocol}/{name}": verify(run.model(protocol, name), "train") for protocol in PROTOCOLS for name in MODELS
    }
    made_from = fingerprint(
        models={key: manifest["files"] for key, manifest in models.items()},
        features=[verify(run.features / protocol, "prepare")["fingerprint"] for protocol in PROTOCOLS],
        code=source_digest("models"),
    )
    stamp = run.root / ".evaluation-stamp.json"
    there = run.evaluation.is_file() and stamp.is_file()
    if there and read_json(stamp) == {"fingerprint": made_from, "sha256": sha256(run.evaluation)}:
        return read_results(run)
    results = []
    for protocol in PROTOCOLS:
        features = load_features(run, protocol)
        for name in MODELS:
            model, config = load(run, features, name, device)
            results.append(test_result(name, scorer(model, device), features, config["seed"], True, config))
            advance(1, f"{name}, {protocol}")
        train = features.interactions("train")
        for name, baseline in BASELINES[protocol].items():
            rule = baseline(train, features.users, features.movies)
            seed = results[0]["seed"]
            results.append(test_result(name, rule, features, seed, rule.is_probability, {}))
            advance(1, f"{name}, {protocol}")
    write_json(run.evaluation, results)
    write_json(stamp, {"fingerprint": made_from, "sha256": sha256(run.evaluation)})
    return results
