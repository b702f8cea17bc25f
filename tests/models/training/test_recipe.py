"""What training does beyond the plain loop: schedules, penalties, refitting, pretraining, and histories."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.columns import MOVIE_ID, USER_ID
from core.json_files import read_json
from core.run_folder import Run
from models.data.batches import Batches, Sampling
from models.data.history import later_among, timeline
from models.data.load import load_features
from models.networks.base import NETWORKS, NetworkSettings, build
from models.networks.dlrm import HistoryBlock
from models.training.epoch import make_trainee, set_rates, squares_of_rows
from models.training.loop import FIT, REFIT, Callbacks, TrainingLoop, fit, refit
from models.training.pretrain import pretrain
from models.training.settings import TrainSettings
from models.training.train import load, train
from tests.models.sizes import sized
from tests.names import RATING

CPU = torch.device("cpu")
SIZES = {"dim": 8, "bottom": (8,), "top": (8,)}


def quick(name: str, sizes: dict | None = None, **changes) -> TrainSettings:
    """Settings of a small network, trained for two epochs."""
    settings = TrainSettings(network=network(name, **(sizes or {})), batch_size=256, epochs=2, averaging=0.9)
    return replace(settings, **changes)


def network(name: str, **changes) -> NetworkSettings:
    return sized(name, {**SIZES, **changes})


def nothing(*_):
    """Progress that is not looked at."""


@pytest.fixture
def run(prepared, tmp_path):
    for name in ("tables", "features"):
        (tmp_path / name).symlink_to(getattr(prepared, name))
    return Run(tmp_path)


# -- schedule and penalties --------------------------------------------------------------------------------------------


def test_the_cosine_goes_from_the_full_rate_to_nothing(prepared):
    features = load_features(prepared, "random-split")
    settings = quick("mf", schedule="cosine", learning_rate=0.01, embedding_rate=0.1, epochs=4)
    trainee = make_trainee(build("mf", features, network("mf"), 0), settings, CPU)
    rates = []
    for done in (0, 1, 2, 4):
        set_rates(trainee, settings, done)
        rates.append((trainee.optimizer.param_groups[0]["lr"], trainee.rowwise.learning_rate))
    shares = [1, (1 + np.cos(np.pi / 4)) / 2, 0.5, 0]
    np.testing.assert_allclose(rates, [(0.01 * share, 0.1 * share) for share in shares], atol=1e-12)


def test_a_constant_rate_stays(prepared):
    settings = quick("mf")
    model = build("mf", load_features(prepared, "random-split"), settings.network, 0)
    trainee = make_trainee(model, settings, CPU)
    set_rates(trainee, settings, 1.5)
    assert trainee.optimizer.param_groups[0]["lr"] == settings.learning_rate


def test_the_penalty_is_of_the_rows_that_were_used(prepared):
    model = build("mf", load_features(prepared, "random-split"), network("mf"), 0)
    tables = dict(model.embedding_tables())
    user, movie = torch.tensor([4, 4, 5]), torch.tensor([6, 7, 6])
    with squares_of_rows(model, 1.0) as squares:
        model(user, movie)
        expected = [
            table.weight[index].square().sum() for table, index in ((tables[USER_ID], user), (tables[MOVIE_ID], movie))
        ]
        assert sorted(float(value) for value in squares) == pytest.approx(sorted(map(float, expected)))
    with squares_of_rows(model, 0.0) as squares:
        model(user, movie)
    assert not squares
    model(user, movie)


@pytest.mark.parametrize("name", ["mf", "ncf", "dlrm"])
def test_a_penalty_keeps_embeddings_small(prepared, name):
    features = load_features(prepared, "random-split")
    sizes = []
    for l2 in (0.0, 0.5):
        settings = quick(name, {"history": 3}, l2=l2, learning_rate=0.01, epochs=3)
        model = build(name, features, settings.network, 0)
        fit(model, features, settings, CPU)
        sizes.append(sum(float(table.weight.detach().square().sum()) for _, table in model.embedding_tables()))
    assert sizes[1] < 0.7 * sizes[0]


# -- matrix factorisation ----------------------------------------------------------------------------------------------


def test_matrix_factorisation_is_two_biases_and_a_dot_product(prepared):
    model = build("mf", load_features(prepared, "random-split"), NetworkSettings(dim=5, init_std=1.0), 3)
    tables = dict(model.embedding_tables())
    user, movie = torch.tensor([3, 9, 3]), torch.tensor([4, 4, 11])
    p, q = tables[USER_ID].weight[user], tables[MOVIE_ID].weight[movie]
    assert p.shape == (3, 6)
    expected = (p[:, :5] * q[:, :5]).sum(1) + p[:, 5] + q[:, 5]
    torch.testing.assert_close(model(user, movie), expected)


def test_star_prediction_starts_from_the_mean_star(prepared):
    features = load_features(prepared, RATING)
    stars = features.interactions("train").stars
    model = build("mf", features, NetworkSettings(dim=4, init_std=1e-6), 0)
    torch.testing.assert_close(model(torch.tensor([3, 4]), torch.tensor([3, 4])), stars.mean().expand(2))
    assert torch.equal(features.interactions("train").label, stars)


# -- refitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["leave-one-out", "random-split", RATING])
def test_a_refitted_model_has_seen_the_validation_rows(run, protocol):
    settings = quick("dlrm", {"history": 3}, refit=True, epochs=3)
    config = train(run, protocol, "dlrm", settings, CPU, nothing)
    assert config.trained_on == ["train", "valid"]
    assert len(read_json(run.model(protocol, "dlrm") / "history.json")) == config.epochs
    features = load_features(run, protocol)
    model, _ = load(run, features, "dlrm", CPU)
    past = timeline(features, ("train", "valid"), 3).now()
    assert torch.equal(model.now_movies, past.movies)
    plain = train(run, protocol, "dlrm", replace(settings, refit=False), CPU, nothing)
    assert plain.trained_on == ["train"]
    assert plain.validation == config.validation
    assert train(run, protocol, "dlrm", replace(settings, refit=False), CPU, nothing) is None


def test_refitting_trains_on_every_row_but_the_test_s(prepared):
    features = load_features(prepared, "leave-one-out")
    settings = quick("ncf", recency=2.0)
    model = build("ncf", features, settings.network, 0)
    loop = TrainingLoop(model, features, settings, CPU, parts=REFIT, callbacks=Callbacks())
    batches = loop.task.batches
    rows = batches.rows
    assert len(rows) == sum(len(features.interactions(part)) for part in ("train", "valid"))
    last = later_among(rows) == 0
    valid = features.interactions("valid")
    assert set(zip(rows.user[last].tolist(), rows.movie[last].tolist())) >= set(
        zip(valid.user.tolist(), valid.movie.tolist())
    )
    assert batches.weight[last].min() == batches.weight.max()
    seen = set(zip(rows.user.tolist(), rows.movie.tolist()))
    batch = next(batches.epoch(1))
    negatives = batch.label == 0
    assert not seen & set(zip(batch.user[negatives].tolist(), batch.movie[negatives].tolist()))


@pytest.mark.parametrize("stopped_in", ["epoch 2:", "with validation rows, epoch 1"])
def test_a_training_stopped_in_either_pass_ends_with_the_same_weights(run, tmp_path, stopped_in):
    settings = quick("dlrm", {"history": 2}, refit=True, epochs=3, patience=3)

    def stops(_, note):
        if stopped_in in note:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, "leave-one-out", "dlrm", settings, CPU, stops)
    folder = run.model("leave-one-out", "dlrm")
    assert not folder.exists()
    notes = []
    train(run, "leave-one-out", "dlrm", settings, CPU, lambda _, note: notes.append(note))
    assert any("resumes after epoch" in note for note in notes)
    assert not list(folder.parent.glob(".*checkpoint*"))
    other = tmp_path / "whole"
    train(run, "leave-one-out", "dlrm", settings, CPU, nothing, target=other)
    one, two = (load_file(path / "weights.safetensors") for path in (folder, other))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_refitting_takes_as_many_epochs_as_asked(prepared):
    features = load_features(prepared, "random-split")
    settings = quick("mf")
    model = build("mf", features, settings.network, 0, REFIT)
    history = refit(model, features, settings, 4, CPU)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


# -- pretraining -------------------------------------------------------------------------------------------------------


def test_ncf_starts_from_its_branches_each_weighing_a_half(prepared):
    features = load_features(prepared, "random-split")
    settings = quick("ncf", pretraining=2)
    model = build("ncf", features, settings.network, 0)
    loop = TrainingLoop(model, features, settings, CPU, parts=FIT, callbacks=Callbacks())
    found, notes = [], []
    ncf = NETWORKS["ncf"]
    watched = replace(ncf, branches=lambda of: found.extend(ncf.branches(of)) or found)
    pretrain(watched, loop.trainee, loop.task, lambda _, note: notes.append(note))
    assert len(notes) == 4
    gmf, mlp = found
    user, movie = torch.tensor([3, 5, 8]), torch.tensor([4, 9, 3])
    model.eval()
    with torch.no_grad():
        both = (gmf.eval()(user, movie) + mlp.eval()(user, movie)) / 2
        torch.testing.assert_close(model(user, movie), both)
    assert {id(p) for p in gmf.network[0].parameters()} <= {id(p) for p in model.parameters()}


def test_pretraining_is_done_once_and_changes_the_result(run):
    settings = quick("ncf", pretraining=1, epochs=2, patience=2)
    notes = []

    def stops(_, note):
        notes.append(note)
        if note.startswith("epoch 1:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, "random-split", "ncf", settings, CPU, stops)
    assert sum("branch" in note for note in notes) == 2
    notes.clear()
    first = train(run, "random-split", "ncf", settings, CPU, lambda _, note: notes.append(note))
    plain = train(run, "random-split", "ncf", replace(settings, pretraining=0), CPU, nothing)
    assert first.validation != plain.validation


# -- histories ---------------------------------------------------------------------------------------------------------


def test_a_history_is_pooled_by_position_and_by_stars(prepared):
    features = load_features(prepared, "random-split")
    model = build("dlrm", features, network("dlrm", history=3), 0)
    inputs = next(module for module in model.network.modules() if isinstance(module, HistoryBlock))
    with torch.no_grad():
        inputs.position.copy_(torch.tensor([[1.0, 2.0, 4.0], [1.0, 10.0, 100.0]]))
    codes, stars = torch.tensor([[7, 5, 0]]), torch.tensor([[0.5, -1.0, 0.0]])
    table = inputs.table.table.weight
    inputs.inputs = torch.nn.Identity()
    found = inputs({"history": codes, "history_stars": stars})
    torch.testing.assert_close(found["history"], 1 * table[7:8] + 2 * table[5:6])
    torch.testing.assert_close(found["history_stars"], 0.5 * table[7:8] - 10 * table[5:6])


def test_a_shared_history_scores_as_one_for_each_sample(prepared):
    features = load_features(prepared, "leave-one-out")
    model = build("dlrm", features, network("dlrm", history=3), 0).eval()
    rows = features.interactions("train")
    line = timeline(features, ("train",), 3)
    batches = Batches(rows, features.rated_movies, Sampling(batch_size=100, negatives=4), CPU, past=line)
    batch = next(batches.epoch(1))
    assert len(batch.history.movies) * 5 == len(batch)
    own = replace(
        batch.history,
        owner=None,
        **{key: getattr(batch.history, key)[batch.history.owner] for key in ("movies", "stars", "recent_means")},
    )
    with torch.no_grad():
        shared = model(batch.user, batch.movie, batch.fold, batch.history)
        torch.testing.assert_close(shared, model(batch.user, batch.movie, batch.fold, own))
    positives = batch.label == 1
    assert torch.equal(batch.history.owner[positives], torch.arange(int(positives.sum())))


def test_now_is_the_history_after_all_ratings(prepared):
    features = load_features(prepared, "random-split")
    model = build("dlrm", features, network("dlrm", history=3), 0).eval()
    user, movie = torch.tensor([3, 4, 3]), torch.tensor([5, 6, 7])
    line = timeline(features, ("train",), 3)
    with torch.no_grad():
        torch.testing.assert_close(model(user, movie), model(user, movie, None, line.at(user, line.lengths()[user])))


def test_a_user_s_statistics_can_be_left_out(prepared):
    features = load_features(prepared, "random-split")
    model = build("dlrm", features, network("dlrm", user_statistics=False), 0).eval()
    assert model.user_statistics is None
    whole = build("dlrm", features, network("dlrm"), 0)
    width = [next(m for m in of.modules() if isinstance(m, torch.nn.Linear)).in_features for of in (model, whole)]
    assert width[1] - width[0] == 3
