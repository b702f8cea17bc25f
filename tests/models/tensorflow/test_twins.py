"""Every twin: the network's scores, its steps, and training that is stopped, refused and sealed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch

from core.errors import UserError
from models.data.batches import Batches, Sampling
from models.data.history import timeline
from models.data.load import load_features
from models.networks.base import NETWORKS, build
from models.tensorflow.base import TWINS
from models.tensorflow.blocks import SeededDropout
from models.tensorflow.inputs import pair_inputs, shared_inputs
from models.tensorflow.steps import difference
from models.training.checkpoint import Checkpoint
from models.training.frameworks import TWIN_NAMES
from models.training.loop import FIT, Callbacks, TrainingLoop, fit
from models.training.settings import TrainSettings
from models.training.train import load, read_config, train
from tests.models.sizes import CUT_SIZES, sized, training_of
from tests.models.training.test_checkpoint import checkpoint_of, copy_of

CPU = torch.device("cpu")
CASES = [name for name in CUT_SIZES if name.split()[0] in TWINS]
PROTOCOLS = ("leave-one-out", "random-split")
# What has a state of its own: the running mean, weights by recency, decay, the rates' schedule, the penalty.
PLAIN = TrainSettings(
    learning_rate=0.01,
    schedule="cosine",
    weight_decay=1e-4,
    l2=1e-3,
    averaging=0.99,
    recency=5.0,
    negatives=2,
    batch_size=128,
    epochs=3,
    patience=3,
    seed=3,
)
SIZES = {"dim": 8, "bottom": (16,), "top": (16, 8), "history": 5}
SHARED = {"own negatives": 0, "shared negatives": 16}


def first_batch(features, name, settings, shared: int):
    """The first batch of an epoch: samples leave folds out, and share histories or negatives."""
    length = NETWORKS[name].history_length(settings)
    past = timeline(features, FIT, length) if length else None
    sampling = Sampling(batch_size=96, negatives=2, shared_negatives=shared, seed=1)
    return next(Batches(features.interactions("train"), features.rated_movies, sampling, CPU, past=past).epoch(1))


def twin_of(model, features, settings):
    twin = TWINS[model.name](model, features, settings)
    twin.load(twin.pairs(model))
    return twin


def test_each_twin_is_of_a_network():
    assert tuple(sorted(TWINS)) == tuple(sorted(TWIN_NAMES)) == ("dlrm", "ncf")
    assert set(TWINS) <= set(NETWORKS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_a_twin_scores_as_its_network(prepared, case, protocol):
    features, name = load_features(prepared, protocol), case.split()[0]
    settings = sized(name, {**CUT_SIZES[case], "init_std": 0.5})
    model = build(name, features, settings, seed=1).eval()
    twin = twin_of(model, features, settings)
    with torch.no_grad():
        batch = first_batch(features, name, settings, 0)
        own = model(batch.user, batch.movie, batch.fold, batch.history).numpy()
        inputs = {key: tf.constant(values) for key, values in pair_inputs(model, batch).items()}
        np.testing.assert_allclose(twin.scores(inputs) + model.offset.numpy(), own, atol=1e-5)
        batch = first_batch(features, name, settings, 16)
        own = model.against(batch).numpy()
        inputs = {key: tf.constant(values) for key, values in shared_inputs(model, batch).items()}
        np.testing.assert_allclose(twin.against(inputs) + model.offset.numpy(), own, atol=1e-5)
    assert own.std() > 0.01  # a thousand times what they may differ by
    assert 0 <= difference(model, features, settings) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_a_twin_holds_every_weight_and_gives_it_back_as_it_was(prepared, case):
    features, name = load_features(prepared, "leave-one-out"), case.split()[0]
    settings = sized(name, CUT_SIZES[case])
    model = build(name, features, settings, seed=1)
    twin = twin_of(model, features, settings)
    pairs = twin.pairs(model)
    assert {id(pair.parameter) for pair in pairs} == {id(one) for one in model.parameters() if one.requires_grad}
    before = {key: value.detach().clone() for key, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for pair in pairs:
            pair.parameter.zero_()
    twin.give_back(pairs)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("name", TWIN_NAMES)
def test_an_epoch_of_either_framework_ends_with_the_same_weights(prepared, name, shared, monkeypatch):
    monkeypatch.setattr("models.training.epoch.AVERAGE_STEPS", 2)
    features = load_features(prepared, "leave-one-out")
    settings = replace(training_of(name, PLAIN, {**SIZES, "init_std": 0.3}), shared_negatives=shared, batch_size=512)
    found = {}
    for framework in ("torch", "tensorflow"):
        model = build(name, features, settings.network, settings.seed)
        task = replace(settings, framework=framework)
        loop = TrainingLoop(model, features, task, CPU, parts=FIT, callbacks=Callbacks())
        row = loop.epoch(1)
        found[framework] = row["train_loss"], loop.trainee
    (loss, ours), (of_twin, theirs) = found["torch"], found["tensorflow"]
    assert of_twin == pytest.approx(loss, abs=1e-5)
    for mine, other in ((ours.model, theirs.model), (ours.mean.module, theirs.mean.module)):
        for (key, value), (_, of_other) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
            if shared and value.shape == (1,):  # a softmax knows nothing of the last bias: Adam follows rounding errors
                continue
            torch.testing.assert_close(of_other, value, atol=2e-4, rtol=1e-3, msg=key)
    steps = [trainee.optimizer.state_dict()["state"][0]["step"] for trainee in (ours, theirs)]
    assert steps[0] == steps[1] > 0


def test_dropout_depends_on_the_seed_the_step_and_the_layer_alone():
    seed = tf.Variable([7, 3], dtype=tf.int64)
    layer, other = SeededDropout(0.4, seed, 0), SeededDropout(0.4, seed, 1)
    ones = tf.ones((200, 50))
    dropped = layer(ones).numpy()
    assert np.unique(dropped) == pytest.approx([0, 1 / 0.6])
    assert (dropped == 0).mean() == pytest.approx(0.4, abs=0.02)
    assert (layer(ones).numpy() == dropped).all()
    assert (other(ones).numpy() != dropped).any()
    seed.assign([7, 4])
    assert (layer(ones).numpy() != dropped).any()
    seed.assign([0, 0])
    assert (layer(ones).numpy() == 1).all()


class Stopped(Exception):
    """The training was killed."""


@pytest.mark.parametrize("name", TWIN_NAMES)
def test_a_training_that_was_stopped_ends_with_the_same_weights(prepared, tmp_path: Path, name):
    features = load_features(prepared, "leave-one-out")
    sizes = {**SIZES, "dropout": 0.3}
    settings = replace(training_of(name, PLAIN, sizes), shared_negatives=16, framework="tensorflow")

    def trained(checkpoint: Checkpoint, stop_after: int | None = None):
        def watch(epoch: int, _: float) -> None:
            if epoch == stop_after:
                raise Stopped

        model = build(name, features, settings.network, settings.seed)
        history, best = fit(model, features, settings, CPU, Callbacks(checkpoint=checkpoint, watch=watch))
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
        return model.state_dict(), rows, best

    weights, history, best = trained(Checkpoint(tmp_path / "whole", "these"))
    with pytest.raises(Stopped):
        trained(Checkpoint(tmp_path / "stopped", "these"), stop_after=2)
    again = trained(Checkpoint(tmp_path / "stopped", "these"))
    assert (again[1], again[2]) == (history, best)
    assert all(torch.equal(value, weights[key]) for key, value in again[0].items())


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("mf", {}, "mf has no twin in TensorFlow, dlrm and ncf have"),
        ("ncf", {"pretraining": 1}, "pretraining is 1 in the settings of ncf.*--set pretraining=0"),
        ("dlrm", {"embedding_rate": 0.1}, "embedding_rate is 0.1.*--set embedding_rate=0"),
        ("dlrm", {"precision": "bfloat16"}, "precision is bfloat16.*--set precision=float32"),
    ],
)
def test_what_is_not_carried_over_is_refused_by_name(prepared, tmp_path, name, changes, said):
    run = copy_of(prepared, tmp_path)
    settings = replace(training_of(name, PLAIN, SIZES), framework="tensorflow", **changes)
    with pytest.raises(UserError, match=said):
        train(run, "random-split", name, settings, CPU, lambda *_: None)
    assert not run.model("random-split", name).exists()


def test_a_model_is_kept_as_any_other_is_and_says_what_trained_it(prepared, tmp_path):
    run = copy_of(prepared, tmp_path)
    settings = replace(training_of("ncf", PLAIN, SIZES), framework="tensorflow", precision="auto", epochs=1)
    config = train(run, "random-split", "ncf", settings, CPU, lambda *_: None)
    folder = run.model("random-split", "ncf")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "history.json",
        "manifest.json",
        "weights.safetensors",
    ]
    kept = read_config(folder)
    assert config is not None
    assert (kept.epochs, kept.validation) == (config.epochs, config.validation)
    assert kept.settings["framework"] == "tensorflow"
    assert kept.settings["precision"] == "float32"
    assert any(package.startswith("tensorflow") for package in kept.versions)
    model, _ = load(run, load_features(run, "random-split"), "ncf", CPU)
    assert not model.training
    assert train(run, "random-split", "ncf", settings, CPU, lambda *_: None) is None
    assert not checkpoint_of(folder).exists()


def test_a_model_that_its_twin_does_not_agree_with_is_not_kept(prepared, tmp_path, monkeypatch):
    run = copy_of(prepared, tmp_path)
    settings = replace(training_of("ncf", PLAIN, SIZES), framework="tensorflow", epochs=1)
    twin = TWINS["ncf"]

    class Wrong(twin):
        def scores(self, inputs):
            return super().scores(inputs) + 1e-3

    monkeypatch.setitem(TWINS._entries, "ncf", (1, Wrong))
    with pytest.raises(UserError, match=r"ncf scores .*e-0[34] apart from the twin"):
        train(run, "random-split", "ncf", settings, CPU, lambda *_: None)
    assert not run.model("random-split", "ncf").exists()
