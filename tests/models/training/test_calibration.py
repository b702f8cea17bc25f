"""Temperature and shift, by hand: what they recover, what they leave, and what a refitted model takes over."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.features import Features
from models.data.interactions import Candidates
from models.data.load import load_features
from models.networks.base import Recommender, build
from models.protocols.base import PROTOCOLS, Examples
from models.training.calibration import calibrate, calibrate_as
from tests.models.sizes import small
from tests.models.synthetic import features_of_rows, rows_at
from workflows.features.vocabulary import FIRST_INDEX

CPU = torch.device("cpu")
USERS, MOVIES, COUNT = 60, 90, 40_000
PROTOCOL = "leave-one-out"
CANDIDATES = Candidates(*(np.zeros((1,), np.int32),) * 4)


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of_rows(rows_at([(3, 4, 1), (4, 5, 2)]), USERS, MOVIES, PROTOCOL)


def made(features: Features, name: str = "mf") -> Recommender:
    return build(name, features, small(name, init_std=0.8), seed=1).eval()


def raw(model: Recommender, user: torch.Tensor, movie: torch.Tensor) -> torch.Tensor:
    """Scores before scale and offset, float64 [n]."""
    with torch.no_grad():
        return (model(user, movie).double() - model.offset.double()) / model.scale.double()


def pairs(count: int = COUNT, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    user, movie = (rng.integers(FIRST_INDEX, most, count) for most in (USERS, MOVIES))
    return torch.from_numpy(user), torch.from_numpy(movie)


def ask(monkeypatch, label, weight=None):
    """Validation asks about the pairs above, and these are the labels."""
    user, movie = (index.numpy() for index in pairs())

    def examples(self, scorer, questions) -> Examples:
        asked = replace(CANDIDATES, user=user[:1].astype(np.int32))
        return Examples(
            scorer.asked(asked).pairs(user, movie), label, np.ones(len(label)) if weight is None else weight
        )

    monkeypatch.setattr(type(PROTOCOLS[PROTOCOL]), "examples", examples)
    monkeypatch.setattr(type(PROTOCOLS[PROTOCOL]), "questions", lambda self, features, part, seed=0: None)


def drawn(score: torch.Tensor, scale: float, shift: float) -> np.ndarray:
    """Labels of these scores: 1 with the probability sigmoid(scale * score + shift)."""
    chance = torch.sigmoid(scale * score + shift).numpy()
    return (np.random.default_rng(7).random(len(chance)) < chance).astype(np.float32)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 1.0), (0.3, -4.0)])
@pytest.mark.parametrize("offset", [0.0, -10.0])
def test_the_scale_and_the_shift_that_labels_were_drawn_with_are_found(features, monkeypatch, scale, shift, offset):
    """From wherever the scores start: those of a softmax lie far below 0."""
    model = made(features)
    model.offset.fill_(offset)
    score = raw(model, *pairs())
    ask(monkeypatch, drawn(score, scale, shift))
    calibrate(model, features, CPU, None)
    assert float(model.scale) == pytest.approx(scale, rel=0.06)
    assert float(model.offset) == pytest.approx(shift, abs=0.1)
    found = torch.sigmoid(model(*pairs()).detach()).double().mean()
    assert float(found) == pytest.approx(drawn(score, scale, shift).mean(), rel=0.02)


def test_rare_positives_are_found_as_often_as_they_are(features, monkeypatch):
    """One of a thousand: the fit does not stop while the gradient is small only because there are few."""
    model = made(features)
    model.offset.fill_(-10.0)
    label = drawn(raw(model, *pairs()), 0.5, -6.5)
    assert 20 < label.sum() < 200
    ask(monkeypatch, label)
    calibrate(model, features, CPU, None)
    found = torch.sigmoid(model(*pairs()).detach()).double().mean()
    assert float(found) == pytest.approx(label.mean(), rel=0.02)


def test_what_is_calibrated_already_stays(features, monkeypatch):
    model = made(features)
    ask(monkeypatch, drawn(raw(model, *pairs()), 2.0, 1.0))
    calibrate(model, features, CPU, None)
    scale, offset = float(model.scale), float(model.offset)
    calibrate(model, features, CPU, None)
    assert float(model.scale) == pytest.approx(scale, abs=1e-3)
    assert float(model.offset) == pytest.approx(offset, abs=1e-3)


def test_an_example_counts_as_often_as_it_weighs(features, monkeypatch):
    """A weight of 3 for negatives is each of them three times."""
    model = made(features)
    label = drawn(raw(model, *pairs()), 1.0, 0.0)
    ask(monkeypatch, label, np.where(label == 1, 1.0, 3.0))
    calibrate(model, features, CPU, None)
    assert float(model.scale) == pytest.approx(1.0, rel=0.05)
    assert float(model.offset) == pytest.approx(-np.log(3), abs=0.05)


def test_the_order_of_scores_stays(features, monkeypatch):
    model = made(features)
    user, movie = pairs(2000, seed=5)
    before = model(user, movie).detach()
    ask(monkeypatch, drawn(raw(model, *pairs()), 0.5, 1.0))
    calibrate(model, features, CPU, None)
    after = model(user, movie).detach()
    assert float(model.scale) != 1.0
    assert torch.equal(torch.argsort(before, stable=True), torch.argsort(after, stable=True))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_leaves_it(features, monkeypatch, label):
    model = made(features)
    ask(monkeypatch, np.full(COUNT, label, np.float32))
    calibrate(model, features, CPU, None)
    assert (float(model.scale), float(model.offset)) == (1.0, float(made(features).offset))


def test_scores_that_go_the_wrong_way_are_left(features, monkeypatch):
    model = made(features)
    ask(monkeypatch, drawn(raw(model, *pairs()), -1.0, 0.0))
    calibrate(model, features, CPU, None)
    assert float(model.scale) == 1.0


def test_answers_that_are_no_probabilities_leave_it(prepared):
    features = load_features(prepared, "rating")
    model = made(features)
    before = float(model.offset)
    calibrate(model, features, CPU, None)
    assert (float(model.scale), float(model.offset)) == (1.0, before)


def test_a_model_that_was_trained_again_takes_it_over(features):
    one, other = made(features), made(features)
    one.scale.fill_(0.7)
    one.offset.fill_(-2.0)
    calibrate_as(other, one)
    assert (float(other.scale), float(other.offset)) == (pytest.approx(0.7), -2.0)
    one.offset.fill_(5.0)
    assert float(other.offset) == -2.0  # a value of its own
