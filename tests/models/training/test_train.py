"""Training on the synthetic data: it is repeatable, learns nothing from shuffled labels, and writes its files."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.artifacts import verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation.scorers import pair_scorer, past_of
from models.networks.base import Recommender, build
from models.protocols.base import PROTOCOLS as ALL_PROTOCOLS
from models.training.calibration import calibrate_as
from models.training.loop import Callbacks, fit, refit, samples_per_epoch, validator
from models.training.settings import TrainSettings
from models.training.train import load, train
from tests.conftest import write_movielens
from tests.models.sizes import training_of
from tests.names import COMPARED, DEFAULT_PROTOCOLS, NETWORKS, PROTOCOLS
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.vocabulary import FIRST_INDEX
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables

CPU = torch.device("cpu")
SIZES = {"dim": 8, "bottom": (16,), "top": (16, 8), "history": 3}


def settings_of(name: str, sizes: dict | None = None, **changes) -> TrainSettings:
    """How a network is trained here, with some settings changed."""
    plain = TrainSettings(learning_rate=0.01, batch_size=128, epochs=2, seed=3)
    return replace(training_of(name, plain, {**SIZES, **(sizes or {})}), **changes)


def silent(*_: object) -> None:
    pass


def train_in_memory(features: Features, name: str, settings: TrainSettings):
    """A model, its history and its best epoch, without a file."""
    model = build(name, features, settings.network, settings.seed)
    history, best = fit(model, features, settings, CPU)
    return model, history, best


def judged(model: Recommender, features: Features) -> dict[str, float]:
    """What validation says of a model that was trained on train alone."""
    return validator(features, CPU, past_of(model, features, ("train",)))(model)


def without_seconds(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.fixture
def run(prepared, tmp_path) -> Run:
    """A copy of the prepared run, to be written to; without the models that other tests have trained there."""
    not_prepared = shutil.ignore_patterns("models", "repository", "evaluation.json")
    shutil.copytree(prepared.root, tmp_path / prepared.root.name, ignore=not_prepared)
    return Run(tmp_path / prepared.root.name)


# -- the loop ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_repeats_weights_and_history(prepared, protocol, name):
    features = load_features(prepared, protocol)
    settings = settings_of(name, {"dropout": 0.4})  # dropout draws from torch's own state
    (first, history, best), (again, history_again, best_again) = (
        train_in_memory(features, name, settings) for _ in range(2)
    )
    assert without_seconds(history) == without_seconds(history_again)
    assert best == best_again
    state, state_again = first.state_dict(), again.state_dict()
    assert all(torch.equal(state[key], state_again[key]) for key in state)
    _, other, _ = train_in_memory(features, name, replace(settings, seed=4))
    assert other[0]["train_loss"] != history[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_early_stopping_keeps_the_best_epoch(prepared, protocol, name):
    features = load_features(prepared, protocol)
    settings = settings_of(name, epochs=12, patience=3, learning_rate=0.05)
    model, history, best = train_in_memory(features, name, settings)
    monitor = ALL_PROTOCOLS[protocol].monitor
    sign = ALL_PROTOCOLS[protocol].metric(monitor).sign
    values = [sign * row[monitor] for row in history]
    assert best == 1 + int(np.argmax(values))
    assert len(history) == min(best + 3, 12)
    # what it keeps is calibrated, which changes no order, but what probabilities are worth
    again = {key: value for key, value in judged(model, features).items() if key not in ("log_loss", "ece")}
    assert again == pytest.approx({key: history[best - 1][key] for key in again}, rel=1e-6)


def test_the_reserved_embeddings_are_the_mean_of_the_trained_ones(prepared):
    model, _, _ = train_in_memory(load_features(prepared, "leave-one-out"), "dlrm", settings_of("dlrm"))
    tables = dict(model.embedding_tables())
    for name in (USER_ID, MOVIE_ID):
        table = tables[name]
        mean = table.weight[3:].mean(dim=0).expand(3, -1)
        torch.testing.assert_close(table.weight[:3], mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_progress_counts_every_sample_once(prepared, protocol):
    features = load_features(prepared, protocol)
    settings = settings_of("ncf", batch_size=32)  # many steps, so that progress is reported within an epoch too
    reported: list[tuple[float, str]] = []
    callbacks = Callbacks(advance=lambda *of: reported.append(of))
    history, _ = fit(build("ncf", features, settings.network, 0), features, settings, CPU, callbacks)
    assert sum(by for by, _ in reported) == sum(row["samples"] for row in history)
    assert len(reported) > len(history)
    assert sum(bool(note) for _, note in reported) == len(history)
    rows = training_rows(prepared, protocol)
    assert rows == len(features.interactions("train"))
    assert history[0]["samples"] == samples_per_epoch(rows, protocol, settings)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_rowwise_updates_train_every_large_table(prepared, monkeypatch, protocol, name):
    monkeypatch.setattr("models.training.epoch.LARGE_TABLE", 100)  # the movies' tables and not the users'
    features = load_features(prepared, protocol)
    assert features.user_embeddings < 100 < features.movie_embeddings
    settings = settings_of(name, epochs=6, patience=6, embedding_rate=0.05)
    model, history, _ = train_in_memory(features, name, settings)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    fresh = build(name, features, settings.network, settings.seed)
    for (_, table), (_, before) in zip(model.embedding_tables(), fresh.embedding_tables()):
        assert (table.weight[FIRST_INDEX:] != before.weight[FIRST_INDEX:]).any(dim=1).float().mean() > 0.9
    _, by_adam, _ = train_in_memory(features, name, replace(settings, embedding_rate=0.0, epochs=1))
    assert by_adam[0]["train_loss"] != history[0]["train_loss"]


def test_small_tables_are_left_to_adam(prepared):
    features = load_features(prepared, "random-split")
    results = [train_in_memory(features, "ncf", settings_of("ncf", embedding_rate=rate)) for rate in (0.0, 0.5)]
    (first, history, _), (second, history_again, _) = results
    assert without_seconds(history) == without_seconds(history_again)
    for one, other in zip(first.parameters(), second.parameters()):
        assert torch.equal(one, other)


def test_an_epoch_of_leave_one_out_has_the_negatives_too():
    settings = TrainSettings(negatives=4)
    assert samples_per_epoch(100, "leave-one-out", settings) == 500
    assert samples_per_epoch(100, "random-split", settings) == 100


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("embedding_rate", [0.0, 0.05])
def test_bfloat16_ends_near_float32(prepared, monkeypatch, protocol, name, embedding_rate):
    monkeypatch.setattr("models.training.epoch.LARGE_TABLE", 10)
    features = load_features(prepared, protocol)
    settings = settings_of(name, embedding_rate=embedding_rate)
    (model, rough, _), (_, fine, _) = (
        train_in_memory(features, name, replace(settings, precision=precision)) for precision in ("bfloat16", "float32")
    )
    losses, expected = ([row["train_loss"] for row in history] for history in (rough, fine))
    assert losses != expected
    assert losses == pytest.approx(expected, abs=0.01)
    assert all(weight.dtype == torch.float32 for weight in model.state_dict().values())
    assert pair_scorer(model, CPU, protocol)(np.array([3]), np.array([4])).dtype == np.float32


def test_the_configuration_says_which_precision_auto_was(run, monkeypatch):
    for flags, expected in ((set(), "float32"), ({"amx_bf16"}, "bfloat16")):
        monkeypatch.setattr("models.training.devices._cpu_flags", lambda flags=flags: flags)
        config = train(run, "random-split", "ncf", settings_of("ncf", precision="auto"), CPU, silent)
        assert config.settings["precision"] == expected
        # named, it is the same training
        assert train(run, "random-split", "ncf", settings_of("ncf", precision=expected), CPU, silent) is None


# -- labels without meaning ------------------------------------------------------------------------------------------


def shuffle_ratings(folder: Path, seed: int) -> None:
    """Gives every row of `ratings.csv` the stars of a random other one."""
    with open(folder / "ratings.csv", newline="") as file:
        header, *rows = csv.reader(file)
    stars = np.random.default_rng(seed).permutation([row[2] for row in rows])
    lines = [",".join((row[0], row[1], str(value), row[3])) for row, value in zip(rows, stars)]
    (folder / "ratings.csv").write_text("\n".join([",".join(header), *lines]) + "\n")


def prepared_of_300(tmp_path_factory: pytest.TempPathFactory, shuffled: bool) -> Run:
    folder = write_movielens(tmp_path_factory.mktemp("of 300"), users=300, seed=1)
    if shuffled:
        shuffle_ratings(folder, seed=2)
    run = Run(tmp_path_factory.mktemp("runs") / "ml-latest-small")
    fetch_tables(get_dataset("ml-latest-small"), folder, run.tables, silent)
    prepare(run, "random-split", PrepareSettings(), silent)
    return run


@pytest.fixture(scope="module")
def shuffled_run(tmp_path_factory) -> Run:
    """A prepared run whose stars were shuffled before anything was computed from them."""
    return prepared_of_300(tmp_path_factory, shuffled=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_learned_from_shuffled_stars(shuffled_run, name):
    """A statistic that held a validation row's own stars would show here as an AUC well above a half."""
    features = load_features(shuffled_run, "random-split")
    _, history, _ = train_in_memory(features, name, settings_of(name, epochs=4, patience=4))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    for row in history:
        assert row["auc"] == pytest.approx(0.5, abs=0.1)


def test_a_training_row_does_not_see_its_own_stars(shuffled_run):
    """Within the training rows the statistics that leave a row out say nothing about it either."""
    from sklearn.metrics import roc_auc_score

    features = load_features(shuffled_run, "random-split")
    rows = features.interactions("train")
    for statistics, index in (
        (features.side.movie_statistics, rows.movie),
        (features.side.user_statistics, rows.user),
    ):
        mean_rating = 1
        left_out = roc_auc_score(rows.label, statistics[rows.fold.long(), index.long()][:, mean_rating])
        contained = roc_auc_score(rows.label, statistics[-1, index.long()][:, mean_rating])
        assert left_out < 0.53
        assert contained > left_out + 0.03  # what a model would gain if it saw them


@pytest.mark.slow
def test_the_models_beat_chance_on_stars_that_were_not_shuffled(tmp_path_factory):
    """The counterpart: the same loop learns where there is something to learn."""
    features = load_features(prepared_of_300(tmp_path_factory, shuffled=False), "random-split")
    for name in NETWORKS:
        _, history, _ = train_in_memory(features, name, settings_of(name, epochs=15, patience=15))
        assert max(row["auc"] for row in history) > 0.65


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_a_trained_model_leaves_weights_configuration_and_history(run, protocol):
    config = train(run, protocol, "dlrm", settings_of("dlrm"), CPU, silent)
    folder = run.model(protocol, "dlrm")
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors", "config.json", "history.json", "manifest.json"
    }  # fmt: skip
    verify(folder)
    written = read_json(folder / "config.json")
    assert written == json.loads(json.dumps(asdict(config)))
    assert written.keys() == {
        "format", "model", "protocol", "dataset", "settings", "seed", "epochs", "best_epoch", "monitor", "validation",
        "undefined", "trained_on", "train_seconds", "samples_per_second", "weights", "device", "threads", "versions",
    }  # fmt: skip
    assert (config.model, config.protocol, config.dataset) == ("dlrm", protocol, "ml-latest-small")
    assert config.seed == config.settings["seed"] == 3
    assert config.settings["network"]["dim"] == 8
    assert config.monitor == ALL_PROTOCOLS[protocol].monitor
    assert config.trained_on == ["train"]
    history = read_json(folder / "history.json")
    assert len(history) == config.epochs == 2
    assert all(row.keys() >= {"epoch", "train_loss", config.monitor, "samples", "seconds"} for row in history)
    best = history[config.best_epoch - 1]
    assert config.validation[config.monitor] == best[config.monitor]
    assert config.train_seconds == pytest.approx(sum(row["seconds"] for row in history), abs=0.001)
    samples = sum(row["samples"] for row in history)
    assert config.samples_per_second == pytest.approx(samples / config.train_seconds, rel=0.05)
    assert set(config.versions) == {"torch", "merlin-models", "nvtabular", "numpy"}


def test_what_was_trained_is_what_is_loaded(run):
    config = train(run, "leave-one-out", "dlrm", settings_of("dlrm"), CPU, silent)
    features = load_features(run, "leave-one-out")
    model, loaded_config = load(run, features, "dlrm", CPU)
    assert json.dumps(asdict(loaded_config)) == json.dumps(asdict(config))
    in_memory, _, _ = train_in_memory(features, "dlrm", settings_of("dlrm"))
    user, movie = np.arange(3, 40), np.arange(3, 40)
    found, expected = (pair_scorer(one, CPU, "leave-one-out")(user, movie) for one in (model, in_memory))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    metrics = judged(model, features)
    assert metrics == pytest.approx({key: config.validation[key] for key in metrics}, rel=1e-6)


@pytest.mark.parametrize(("protocol", "name"), [("leave-one-out", "dlrm"), ("random-split", "ncf"), ("rating", "mf")])
def test_refitting_trains_a_second_model_on_validation_rows_too(run, protocol, name):
    settings = settings_of(name, refit=True)
    reported = []
    config = train(run, protocol, name, settings, CPU, lambda *of: reported.append(of))
    features = load_features(run, protocol)
    model, loaded = load(run, features, name, CPU)
    assert loaded.trained_on == ["train", "valid"]
    # the file holds the first training, which alone could be validated, and the totals of both
    fitted, history, best = train_in_memory(features, name, settings_of(name))
    assert without_seconds(read_json(run.model(protocol, name) / "history.json")) == without_seconds(history)
    assert config.best_epoch == best
    assert config.validation.items() <= history[best - 1].items()
    again = build(name, features, settings.network, settings.seed, known=("train", "valid"))
    epochs = refit(again, features, settings, best, CPU)
    calibrate_as(again, fitted)
    assert len(epochs) == best
    rows = len(features.interactions("train")) + len(features.interactions("valid"))
    assert {row["samples"] for row in epochs} == {samples_per_epoch(rows, protocol, settings)}
    assert sum(by for by, _ in reported) == sum(row["samples"] for row in (*history, *epochs))
    assert sum(note.startswith("with validation rows, epoch") for _, note in reported) == best
    weights, expected = model.state_dict(), again.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in weights.items())


def test_the_same_again_is_reused_and_changed_settings_are_not(run):
    assert train(run, "leave-one-out", "ncf", settings_of("ncf"), CPU, silent) is not None
    weights = run.model("leave-one-out", "ncf") / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert train(run, "leave-one-out", "ncf", settings_of("ncf"), CPU, silent) is None
    assert weights.stat().st_mtime_ns == before
    for changed in (settings_of("ncf", seed=4), settings_of("ncf", {"dim": 4})):
        config = train(run, "leave-one-out", "ncf", changed, CPU, silent)
        assert config is not None
        assert config.seed == changed.seed
        assert config.settings["network"]["dim"] == changed.network.dim


def test_a_tampered_model_is_trained_again(run):
    train(run, "leave-one-out", "ncf", settings_of("ncf"), CPU, silent)
    config = run.model("leave-one-out", "ncf") / "config.json"
    config.write_text(config.read_text().replace("dlrm", "ncf") + " ")
    assert train(run, "leave-one-out", "ncf", settings_of("ncf"), CPU, silent) is not None
    verify(config.parent)


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("batch_size", [64, 10**6], ids=["many steps", "one step"])
def test_a_loss_that_is_not_a_number_is_never_saved(run, name, batch_size):
    settings = settings_of(name, learning_rate=3e37, batch_size=batch_size)
    folder, refused = run.model("leave-one-out", name), None
    try:
        train(run, "leave-one-out", name, settings, CPU, silent)
    except UserError as error:
        refused = str(error)
    if refused is not None:
        assert "--learning-rate" in refused
        assert not folder.exists()
    else:
        assert all(value.isfinite().all() for value in load_file(folder / "weights.safetensors").values())
        assert np.isfinite([row["train_loss"] for row in read_json(folder / "history.json")]).all()


def test_training_without_features_is_refused(tmp_path):
    with pytest.raises(UserError, match="missing or incomplete"):
        train(Run(tmp_path / "none"), "leave-one-out", "ncf", settings_of("ncf"), CPU, silent)


def test_a_failed_training_leaves_nothing(run):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, "leave-one-out", "ncf", settings_of("ncf"), CPU, fail)
    folder = run.model("leave-one-out", "ncf")
    assert not folder.exists()
    assert not folder.parent.exists() or not any(folder.parent.iterdir())


@pytest.mark.parametrize("file", ["weights.safetensors", "config.json", "history.json"])
def test_loading_a_tampered_model_is_refused(run, file):
    train(run, "random-split", "ncf", settings_of("ncf"), CPU, silent)
    features = load_features(run, "random-split")
    load(run, features, "ncf", CPU)
    path = run.model("random-split", "ncf") / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=f"{file} has changed"):
        load(run, features, "ncf", CPU)


def test_loading_a_model_of_other_features_is_refused(run):
    train(run, "random-split", "ncf", settings_of("ncf"), CPU, silent)
    features = replace(load_features(run, "random-split"), fingerprint="another")
    with pytest.raises(UserError, match=r"trained on other features .* run again: python -m marquee train"):
        load(run, features, "ncf", CPU)


def test_loading_a_model_that_is_not_there_is_refused(prepared, tmp_path):
    with pytest.raises(UserError, match="missing or incomplete"):
        load(Run(tmp_path / "none"), load_features(prepared, "random-split"), "ncf", CPU)


# -- scoring -----------------------------------------------------------------------------------------------------------


def test_a_scorer_gives_probabilities_whatever_the_batch(prepared, monkeypatch):
    features = load_features(prepared, "leave-one-out")
    model = build("dlrm", features, settings_of("dlrm").network, 0)
    score = pair_scorer(model, CPU, "leave-one-out")
    rng = np.random.default_rng(0)
    user, movie = rng.integers(0, features.users, 100), rng.integers(0, features.movies, 100)
    whole = score(user, movie)
    assert whole.dtype == np.float32
    assert whole.shape == (100,)
    assert ((whole > 0) & (whole < 1)).all()
    monkeypatch.setattr("models.evaluation.scorers.SCORING_ROWS", 7)
    np.testing.assert_allclose(score(user, movie), whole, atol=1e-6)
    assert score(user[:0], movie[:0]).shape == (0,)


def test_validation_with_one_label_only_is_refused(movielens, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(movielens, raw)
    header, *rows = (raw / "ratings.csv").read_text().splitlines()
    everything_liked = [",".join([*row.split(",")[:2], "5.0", row.split(",")[3]]) for row in rows]
    (raw / "ratings.csv").write_text("\n".join([header, *everything_liked]) + "\n")
    run = Run(tmp_path / "ml-latest-small")
    fetch_tables(get_dataset("ml-latest-small"), raw, run.tables, silent)
    prepare(run, "random-split", PrepareSettings(), silent)
    with pytest.raises(UserError, match="same label"):
        train(run, "random-split", "ncf", settings_of("ncf"), CPU, silent)
    assert not run.model("random-split", "ncf").exists()
