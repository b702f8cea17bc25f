"""The published accuracy of protocols that are asked together: one table of their means."""

from types import ModuleType

import pytest

from models.protocols.base import PROTOCOLS
from tests.names import FOLDS, RATING
from tests.test_bench import load


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    for name in ("records", "inputs"):
        load(name)
    return load("accuracy")


def model(rmse: list[float], mae: list[float]) -> dict:
    figures = {"rmse": sum(rmse) / len(rmse), "mae": sum(mae) / len(mae)}
    intervals = {name: [value - 0.1, value + 0.1] for name, value in figures.items()}
    return {"metrics": figures, "ci95": intervals, "per_seed": {"rmse": rmse, "mae": mae}, "train_seconds": 1.0}


def judged(place: int) -> dict:
    """Of one fold: the network is .90 to .94, the baseline .95 in all."""
    network = model([0.9 + place / 100, 0.9 + place / 100], [0.7, 0.7])
    return {"seeds": [1, 2], "models": {"mf": network, "biases": model([0.95], [0.75])}, "verdict": "A verdict."}


def found(*protocols: str) -> dict:
    parts = {name: judged(place) for place, name in enumerate(protocols)}
    counts = {"ratings": 100_000, "users": 943, "movies": 1_682}
    return {"dataset": "ml-100k", "counts": counts, "seeds": [1, 2], "protocols": parts}


def test_the_folds_stand_in_one_table_of_means_and_deviations(accuracy):
    lines = accuracy.dataset_section(found(*FOLDS)).splitlines()
    assert lines == [
        "**MovieLens-100K** (100,000 ratings, 943 users, 1,682 movies; 2 training seeds)",
        "",
        "| How many stars will they give? (mean of 5 folds, sd over the folds) | RMSE | MAE | seeds |",
        "|---|---|---|---|",
        "| Matrix factorisation (MF) | 0.9200 (sd 0.0158) | 0.7000 (sd 0.0000) | 2 |",
        "| Biases | 0.9500 (sd 0.0000) | 0.7500 (sd 0.0000) | 1 |",
    ]


def test_other_protocols_keep_their_tables_and_their_seeds(accuracy):
    both = found(RATING, *FOLDS) | {"seeds": [1]}
    text = accuracy.dataset_section(both)
    assert "; 2 training seeds)" in text.splitlines()[0]
    assert text.count("| RMSE | MAE | seeds |") == 2
    assert PROTOCOLS[RATING].title in text
    assert not any(PROTOCOLS[fold].title in text for fold in FOLDS)


def test_folds_that_are_not_all_there_have_no_mean(accuracy):
    assert "folds" not in accuracy.dataset_section(found(RATING, *FOLDS[:4]))
