"""On synthetic data the best reachable metrics are known: what ships must come within a stated share of them."""

import pytest
import torch

from core.run_folder import Run
from models.data.features import Features
from models.data.load import load_features
from models.evaluation.evaluate import trained_scorer
from models.evaluation.judgement import Scorer, means_of, scorer_of
from models.networks.base import build
from models.protocols.base import PROTOCOLS
from models.registry import default_settings, fit_baseline
from models.training.loop import fit
from models.training.settings import LARGE, settings_for
from workflows.features.prepare import PrepareSettings, prepare
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.synthetic.synthesise import synthesise

CPU = torch.device("cpu")
GUESSES = {"leave-one-out": ("hr@10", 0.1), "random-split": ("auc", 0.5)}  # what a guess reaches


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Run:
    """250,000 ratings; not to be changed."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesise(folder / "raw", "ml-25m", 0.01, 7, lambda *_: None)
    run = Run(folder / "runs" / "synth-ml-25m")
    fetch_tables(get_dataset("synth-ml-25m"), folder / "raw", run.tables, lambda _: None)
    for protocol in GUESSES:
        prepare(run, protocol, PrepareSettings(), lambda *_: None)
    return run


def baseline(run: Run, features: Features, name: str) -> Scorer:
    settings = default_settings(features.protocol, name, features.dataset, LARGE).settings
    return scorer_of(fit_baseline(name, features, ("train",), settings, 0, tables=run.tables))


def judged(run: Run, protocol: str, name: str) -> float:
    """How far a model gets from a guess to the truth, by its protocol's metric on the test questions."""
    features = load_features(run, protocol)
    if name == "popularity":
        model = baseline(run, features, name)
    else:
        # the defaults for large data, on batches small enough for this one
        changes = {"batch_size": 1024, "epochs": 4, "precision": "float32", "seed": 1}
        settings = settings_for(protocol, name, rows=LARGE, **changes)
        network = build(name, features, settings.network, settings.seed)
        fit(network, features, settings, CPU)
        model = trained_scorer(network, features, ("train",), CPU)
    metric, guess = GUESSES[protocol]

    def value(scorer: Scorer) -> float:
        asked = PROTOCOLS[protocol]
        return means_of(asked.judge(scorer, asked.questions(features, "test")))[metric]

    return (value(model) - guess) / (value(baseline(run, features, "truth")) - guess)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "name", "least"),
    [
        ("leave-one-out", "dlrm", 0.6),
        ("leave-one-out", "ncf", 0.6),
        ("random-split", "dlrm", 0.75),
        ("random-split", "ncf", 0.75),
    ],
)
def test_a_model_reaches_its_share_of_the_truth(synthetic, protocol, name, least):
    share = judged(synthetic, protocol, name)
    assert least < share < 1.02
    if protocol == "leave-one-out":
        assert share > judged(synthetic, protocol, "popularity")
