"""The protocols that are registered: what each says of itself, and what it makes of three rows."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.data.interactions import Candidates, Interactions
from models.evaluation.judgement import Asked, PerRow, PerUser, Scorer
from models.evaluation.metrics.base import FULL
from models.evaluation.ranking import CatalogueQuestions
from models.protocols.base import (
    PROTOCOLS,
    default_protocols,
    prepared_protocols,
    preparing,
    protocol_groups,
    served_protocols,
)
from models.protocols.next_movie import HeldOut
from models.search_space import OneOf
from tests.names import FOLDS

ROOT = Path(__file__).resolve().parents[3]
SLOW = {"torch", "merlin", "pandas", "pyarrow", "scipy", "sklearn", "tensorflow"}

ROWS = Interactions(
    user=torch.tensor([3, 3, 4], dtype=torch.int32),
    movie=torch.tensor([5, 6, 5], dtype=torch.int32),
    label=torch.tensor([1.0, 0.0, 1.0]),
    fold=torch.tensor([0, 1, 2], dtype=torch.int8),
    later=torch.tensor([1, 0, 0], dtype=torch.int32),
    not_before=torch.tensor([1, 0, 0], dtype=torch.int32),
    stars=torch.tensor([5.0, 2.0, 4.0]),
)
OUTPUTS = torch.tensor([0.0, 1.0, -2.0])
SIGMOIDS = [0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))]

EXPECTED = {
    "leave-one-out": {
        "split": "leave-one-out",
        "task": "ranking",
        "monitor": "full_ndcg@10",
        "deciding": "full_ndcg@10",
        "also_compared": ("full_hr@10", "full_mrr@10", "hr@10", "ndcg@10"),
        "question": "What will they watch next? (leave-one-out; all movies, and a sample of 99)",
        "title": "What will they watch next? (leave-one-out)",
        "needs_validation": False,
        "is_default": True,
        "is_served": True,
        "draws_negatives": True,
        "space": {
            "batch_size": OneOf(256, 512, 1024),
            "shared_negatives": OneOf(32, 64, 128, 256),
            "popularity": OneOf(0.0, 0.5, 0.75, 1.0),
            "recency": OneOf(0.0, 3.0, 5.0, 10.0, 30.0, 100.0),
            "recency_draws": OneOf(False, True),
        },
    },
    "random-split": {
        "split": "random-split",
        "task": "classification",
        "monitor": "auc",
        "deciding": "auc",
        "also_compared": (),
        "question": "Will they like it? (random-split)",
        "title": "Will they like it? (random-split)",
        "needs_validation": True,
        "is_default": True,
        "is_served": True,
        "draws_negatives": False,
        "space": {},
    },
    "rating": {
        "split": "random-split",
        "task": "rating",
        "monitor": "rmse",
        "deciding": "rmse",
        "also_compared": (),
        "question": "How many stars will they give? (rating, the same split)",
        "title": "How many stars? (rating)",
        "needs_validation": True,
        "is_default": False,
        "is_served": False,
        "draws_negatives": False,
        "space": {},
    },
}
EXPECTED["temporal"] = {
    **EXPECTED["leave-one-out"],
    "split": "temporal",
    "question": "What will they watch from a date on? (temporal; all movies, and a sample of 99)",
    "title": "What will they watch from a date on? (temporal)",
    "is_default": False,
    "is_served": False,
    "defaults_like": "leave-one-out",
}
for fold in ("u1", "u2", "u3", "u4", "u5"):
    EXPECTED[f"rating-{fold}"] = {
        **EXPECTED["rating"],
        "split": fold,
        "question": f"How many stars will they give? (rating-{fold}, the published fold {fold})",
        "title": f"How many stars? (fold {fold})",
        "defaults_like": "rating",
        "group": "folds",
    }


# -- what each says of itself ------------------------------------------------------------------------------------------


def test_the_protocols_in_order():
    assert list(PROTOCOLS) == list(EXPECTED)
    assert default_protocols() == ("leave-one-out", "random-split")
    assert served_protocols() == ("leave-one-out", "random-split")
    assert prepared_protocols() == ("leave-one-out", "random-split", "rating")
    assert protocol_groups() == {"folds": FOLDS}


def test_the_command_that_prepares_a_protocol_names_it_where_run_does_not_prepare_it():
    assert [preparing(name) for name in ("leave-one-out", "rating", "temporal", "rating-u3")] == [
        "prepare",
        "prepare",
        "prepare --protocol temporal",
        "prepare --protocol rating-u3",
    ]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_protocol_says_of_itself(name):
    assert vars(PROTOCOLS[name]) == {"name": name, "defaults_like": "", "group": "", **EXPECTED[name]}


def test_what_decides_and_what_is_compared_are_metrics_of_the_task():
    names = {name: list(protocol.metrics) for name, protocol in PROTOCOLS.items()}
    assert names == {
        "leave-one-out": ["hr@10", "ndcg@10", "mrr@10", "auc"],
        "random-split": ["auc", "log_loss", "ece"],
        "temporal": ["hr@10", "ndcg@10", "mrr@10", "auc"],
        **{name: ["rmse", "mae"] for name in ("rating", *FOLDS)},
    }
    for name, protocol in PROTOCOLS.items():
        named = {protocol.monitor, protocol.deciding, *protocol.also_compared}
        assert {one.removeprefix(FULL) for one in named} <= set(names[name])
        for full in (one for one in named if one.startswith(FULL)):
            assert protocol.metric(full).full_catalogue


def test_a_ranking_is_decided_over_all_movies():
    ranked = [protocol for protocol in PROTOCOLS.values() if protocol.task == "ranking"]
    assert ranked
    assert all(protocol.deciding.startswith(FULL) for protocol in ranked)


def test_every_protocol_is_asked_of_a_split_that_there_is():
    from workflows.splits.base import SPLITS

    assert {protocol.split for protocol in PROTOCOLS.values()} <= set(SPLITS)


def test_listing_the_protocols_imports_nothing_that_takes_long():
    code = """
import sys
from models.protocols.base import PROTOCOLS, default_protocols, served_protocols
from models.protocols.next_movie import HeldOut
print(*PROTOCOLS, *default_protocols(), *served_protocols(), *(list(one.metrics) for one in PROTOCOLS.values()))
print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("leave-one-out random-split rating ")
    assert not SLOW & set(result.stderr.split())


# -- what each makes of three rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("leave-one-out", [1, 0, 1]), ("random-split", [1, 0, 1]), ("rating", [5, 2, 4])]
)
def test_labels_by_hand(name, expected):
    label = PROTOCOLS[name].label(ROWS)
    assert label.tolist() == expected
    assert label.dtype == torch.float32


@pytest.mark.parametrize("name", ["leave-one-out", "random-split"])
def test_the_loss_of_logits_by_hand(name):
    losses = [-math.log(SIGMOIDS[0]), -math.log(1 - SIGMOIDS[1]), -math.log(SIGMOIDS[2])]
    loss = PROTOCOLS[name].loss
    assert loss(OUTPUTS, ROWS.label, None).item() == pytest.approx(sum(losses) / 3, rel=1e-6)
    weighted = loss(OUTPUTS, ROWS.label, torch.tensor([2.0, 0.5, 0.0]))
    assert weighted.item() == pytest.approx((2 * losses[0] + 0.5 * losses[1]) / 3, rel=1e-6)


@pytest.mark.parametrize("weight", [None, torch.tensor([2.0, 0.5, 0.0])], ids=["unweighted", "weighted"])
def test_the_loss_of_stars_is_the_squared_error_without_weights(weight):
    loss = PROTOCOLS["rating"].loss(torch.tensor([4.0, 2.0, 1.0]), ROWS.stars, weight)
    assert loss.item() == pytest.approx((1 + 0 + 9) / 3)


@pytest.mark.parametrize(
    ("name", "expected"), [("leave-one-out", SIGMOIDS), ("random-split", SIGMOIDS), ("rating", [0, 1, -2])]
)
def test_answers_by_hand(name, expected):
    assert PROTOCOLS[name].answer(OUTPUTS).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("leave-one-out", 0), ("random-split", 0), ("rating", 11 / 3)])
def test_offsets_by_hand(name, expected):
    asked = []
    features = SimpleNamespace(interactions=lambda part: asked.append(part) or ROWS)
    offset = PROTOCOLS[name].offset(features)
    assert isinstance(offset, float)
    assert offset == pytest.approx(expected)
    assert asked == (["train"] if name == "rating" else [])


# -- what each asks, and how it judges ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random-split", "rating"])
def test_the_questions_are_the_rows_of_the_part(name):
    features = SimpleNamespace(interactions=lambda part: f"rows of {part}")
    found = [PROTOCOLS[name].questions(features, part) for part in ("valid", "test")]
    assert found == ["rows of valid", "rows of test"]


def test_the_questions_of_leave_one_out_are_the_candidates_of_the_part():
    rated = {"train": ([3, 3], [5, 7]), "valid": ([3], [6])}

    def seen(*parts: str) -> tuple[np.ndarray, ...]:
        return tuple(np.concatenate([rated[part][place] for part in parts]) for place in (0, 1))

    def candidates(part: str) -> Candidates:
        held_out = {"valid": 6, "test": 8}[part]
        return Candidates(np.array([3]), np.array([held_out]), np.full((1, 99), -1), np.zeros(1, int))

    features = SimpleNamespace(candidates=candidates, seen=seen, catalogue=np.arange(3, 23), users=4)
    valid, test = (PROTOCOLS["leave-one-out"].questions(features, part) for part in ("valid", "test"))
    assert [one.sampled.positive.tolist() for one in (valid, test)] == [[6], [8]]
    # no others: what came before, and the held-out movie itself; the test movie is one of validation's others
    assert (3 + np.flatnonzero(valid.full.rated[0])).tolist() == [5, 6, 7]
    assert (3 + np.flatnonzero(test.full.rated[0])).tolist() == [5, 6, 7, 8]


def scorer_of_rows(values: list[float], is_probability: bool = True) -> Scorer:
    """Gives the rows these scores; it knows no pairs."""
    return Scorer(None, lambda rows: np.array(values, np.float32), is_probability)


def test_random_split_is_judged_by_hand():
    protocol, scorer = PROTOCOLS["random-split"], scorer_of_rows([0.5, 0.25, 0.125])
    (found,) = protocol.judge(scorer, ROWS)
    assert isinstance(found, PerRow)
    assert found.owner.tolist() == [0, 0, 1]
    # one of the two positives scores above the negative
    losses = [math.log(2), -math.log(0.75), math.log(8)]
    gap = (0.5 + 0.25 + 0.875) / 3  # each row is a bin
    assert found.means() == pytest.approx({"auc": 1 / 2, "log_loss": sum(losses) / 3, "ece": gap})
    (without,) = protocol.judge(scorer_of_rows([0.5, 0.25, 0.125], is_probability=False), ROWS)
    assert without.means() == {"auc": 0.5}
    features = SimpleNamespace(interactions={"test": ROWS}.__getitem__)
    assert [part.means() for part in protocol.test(scorer, features, 0)] == [found.means()]


def test_stars_are_judged_by_hand():
    protocol, scorer = PROTOCOLS["rating"], scorer_of_rows([4, 2, 1], is_probability=False)
    (found,) = protocol.judge(scorer, ROWS)
    assert found.owner.tolist() == [0, 0, 1]
    assert found.means() == pytest.approx({"rmse": math.sqrt((1 + 0 + 9) / 3), "mae": (1 + 0 + 3) / 3})
    features = SimpleNamespace(interactions={"test": ROWS}.__getitem__)
    assert [part.means() for part in protocol.test(scorer, features, 0)] == [found.means()]


def test_leave_one_out_is_judged_by_hand():
    questions = Candidates(
        np.array([3, 4, 5]), np.array([6, 6, 6]), np.tile(np.arange(7, 17), (3, 1)), np.zeros(3, int)
    )
    higher = {3: 0, 4: 1, 5: 2}  # how many of 7 and 8 score above 6, by user

    def pairs(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        above = np.array([higher[one] for one in user])
        return np.where((movie > 6) & (movie - 6 <= above), 2, np.where(movie == 6, 1, 0)).astype(np.float32)

    catalogue = np.arange(6, 27)
    everyone = CatalogueQuestions(
        asked=questions,
        catalogue=catalogue,
        rated=np.tile(catalogue == 6, (3, 1)),
        known=np.ones(3, bool),
        left_out=0,
    )
    scorer = Scorer(lambda asked: Asked(pairs), None, True)
    found, full = PROTOCOLS["leave-one-out"].judge(scorer, HeldOut(questions, everyone))
    assert isinstance(found, PerUser)
    assert full.values["full_hr@10"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(full.values["full_ndcg@10"], [1, 1 / math.log2(3), 1 / 2])
    assert found.values["hr@10"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.values["ndcg@10"], [1, 1 / math.log2(3), 1 / 2])
    np.testing.assert_allclose(found.values["mrr@10"], [1, 1 / 2, 1 / 3])
    assert found.values["auc"].tolist() == [1, 0.9, 0.8]
