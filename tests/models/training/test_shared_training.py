"""Training with shared negatives: stopped and resumed it ends with the same weights, and its scores are calibrated."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.data.load import load_features
from models.networks.base import NETWORKS, build
from models.training.checkpoint import Checkpoint
from models.training.epoch import Advance
from models.training.loop import Callbacks, fit, refit
from models.training.objective import SOFTMAX_OFFSET
from models.training.settings import TrainSettings
from tests.models.sizes import training_of

CPU = torch.device("cpu")
WITH_AGAINST = [name for name, network in NETWORKS.items() if network.against]
# What has a state of its own: dropout, the running mean, weights by recency, decay, the rates' schedule.
PLAIN = TrainSettings(
    learning_rate=0.01,
    schedule="cosine",
    weight_decay=1e-4,
    averaging=0.99,
    recency=5.0,
    shared_negatives=16,
    batch_size=128,
    epochs=3,
    patience=3,
    seed=3,
)
SIZES = {"dim": 8, "bottom": (16,), "top": (16, 8), "dropout": 0.3, "history": 5}
PRETRAINED = {"ncf": 1}


def settings_of(name: str) -> TrainSettings:
    return replace(training_of(name, PLAIN, SIZES), pretraining=PRETRAINED.get(name, 0))


class Stopped(Exception):
    """The training was killed."""


def stop_after(epoch: int) -> Advance:
    """What ends a training with the first report of the epoch after `epoch`."""
    seen: list[str] = []

    def advance(by: float, note: str) -> None:
        if any(f"epoch {epoch}" in line for line in seen):
            raise Stopped
        seen.append(note)

    return advance


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_AGAINST)
def test_a_training_that_was_stopped_ends_with_the_same_weights(prepared, tmp_path: Path, name):
    features, settings = load_features(prepared, "leave-one-out"), settings_of(name)

    def weights(callbacks: Callbacks) -> tuple[list, dict[str, Tensor]]:
        model = build(name, features, settings.network, settings.seed)
        history, _ = fit(model, features, settings, CPU, callbacks)
        return [row["train_loss"] for row in history], model.state_dict()

    checkpoint = Checkpoint(tmp_path / "checkpoint", "made from this")
    expected = weights(Callbacks())
    notes: list[str] = []
    with pytest.raises(Stopped):
        weights(Callbacks(advance=stop_after(2), checkpoint=checkpoint))
    found = weights(Callbacks(advance=lambda by, note: notes.append(note), checkpoint=checkpoint))
    assert any(note.startswith("resumes after epoch 2") for note in notes)
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert not [key for key in expected[1] if not torch.equal(found[1][key], expected[1][key])]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_AGAINST)
def test_a_training_with_validation_rows_that_was_stopped_ends_with_the_same_weights(prepared, tmp_path: Path, name):
    features, settings = load_features(prepared, "leave-one-out"), settings_of(name)

    def weights(callbacks: Callbacks) -> dict[str, Tensor]:
        model = build(name, features, settings.network, settings.seed, known=("train", "valid"))
        refit(model, features, settings, 3, CPU, callbacks)
        return model.state_dict()

    checkpoint = Checkpoint(tmp_path / "checkpoint", "made from this")
    expected = weights(Callbacks())
    with pytest.raises(Stopped):
        weights(Callbacks(advance=stop_after(2), checkpoint=checkpoint))
    found = weights(Callbacks(checkpoint=checkpoint))
    assert not [key for key in expected if not torch.equal(found[key], expected[key])]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_AGAINST)
def test_a_softmax_s_scores_are_calibrated_after_training(prepared, name):
    """As validation's sampled movies show it: one positive for each four negatives."""
    # without dropout, whose noise can outweigh what three epochs learn
    features, settings = load_features(prepared, "leave-one-out"), training_of(name, PLAIN, {**SIZES, "dropout": 0.0})
    model = build(name, features, settings.network, settings.seed)
    history, _ = fit(model, features, settings, CPU)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    if float(model.scale) != 1.0:
        assert float(model.scale) > 0
        assert float(model.offset) != pytest.approx(SOFTMAX_OFFSET)
