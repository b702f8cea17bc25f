"""Settings as data: defaults, JSON, and what is refused with a message that helps."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from core.errors import UserError
from core.json_files import validated, write_json
from core.run_folder import Run
from models import registry
from models.networks.base import NETWORKS as ALL_NETWORKS
from models.networks.dlrm import DLRMSettings
from models.networks.ncf import NCFSettings
from models.training.settings import (
    DEFAULTS,
    LARGE,
    MEDIUM,
    Found,
    TrainSettings,
    from_json,
    read_defaults,
    settings_for,
    to_json,
    with_changes,
)
from models.training.train import CONFIG_FORMAT, TrainedConfig, read_config
from tests.names import NETWORKS, PROTOCOLS

FILE = "runs/ml-100k/tuning/best.json"
TRAINING_KEYS = [field.name for field in fields(TrainSettings) if field.name != "network"]
CONFIG = TrainedConfig(
    format=CONFIG_FORMAT,
    model="dlrm",
    protocol="random-split",
    dataset="ml-100k",
    settings=asdict(TrainSettings(network=DLRMSettings())),
    seed=42,
    epochs=3,
    best_epoch=2,
    monitor="auc",
    validation={"train_loss": 0.5, "auc": 0.7},
    trained_on=["train"],
    train_seconds=1.5,
    samples_per_second=1000,
    weights=123,
    device="CPU, 2 cores",
    threads=1,
    versions={"torch": "2"},
)


def message_of(name: str, values: dict) -> str:
    with pytest.raises(UserError) as error:
        from_json(name, values, FILE)
    message = str(error.value)
    assert message.startswith(FILE)
    assert "\n" not in message
    return message


# -- defaults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_settings_change_only_what_is_given(protocol, name):
    defaults = settings_for(protocol, name)
    assert settings_for(protocol, name, epochs=None, learning_rate=None) == defaults
    changed = settings_for(protocol, name, epochs=defaults.epochs + 1, patience=None)
    assert changed == replace(defaults, epochs=defaults.epochs + 1)


def test_defaults_are_the_dataset_s_own_or_those_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.settings.DEFAULTS", tmp_path)
    for epochs, file in enumerate(("ml-100k", "ml-1m", "large", "ml-10m"), 1):
        write_json(tmp_path / f"{file}.json", {"rating": {"mf": {"settings": {"epochs": epochs}}}})

    def epochs(dataset: str, rows: int) -> int:
        return settings_for("rating", "mf", dataset, rows).epochs

    for dataset in ("", "ml-latest-small", "synth-ml-25m"):
        sizes = (0, 100_000, MEDIUM - 1, MEDIUM, LARGE - 1, LARGE, 32_000_000)
        assert [epochs(dataset, rows) for rows in sizes] == [1, 1, 1, 2, 2, 3, 3]
    for rows in (0, MEDIUM, LARGE):
        assert [epochs(dataset, rows) for dataset in ("ml-100k", "ml-1m", "ml-10m")] == [1, 2, 4]
    assert settings_for("rating", "mf", rows=LARGE, seed=5) == TrainSettings(epochs=3, seed=5)


@pytest.mark.parametrize("file", sorted(path.stem for path in DEFAULTS.glob("*.json")))
def test_shipped_defaults_are_whole(file):
    for protocol in PROTOCOLS:
        for name in NETWORKS:
            settings = settings_for(protocol, name, file)
            saved = json.loads(json.dumps(to_json(settings)))
            assert from_json(name, saved, "x") == settings
            assert settings.seed == TrainSettings().seed


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_settings_go_to_json_and_back():
    network = DLRMSettings(dim=8, bottom=(8,), top=(8,), history=3)
    settings = TrainSettings(network=network, batch_size=256, epochs=2, averaging=0.9, refit=True, l2=0.1)
    saved = to_json(settings)
    assert saved["network"] == {"dim": 8, "bottom": (8,), "top": (8,), "history": 3}
    assert from_json("dlrm", saved, "x") == settings
    assert from_json("dlrm", json.loads(json.dumps(saved)), "x") == settings
    assert to_json(TrainSettings()) == {}
    assert "seed" not in to_json(replace(settings, seed=7))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_json_leaves_out_has_its_default(name):
    assert from_json(name, {}, FILE) == TrainSettings(network=ALL_NETWORKS[name].settings())


def test_whole_numbers_are_rates_too():
    settings = from_json("mf", {"l2": 1, "recency": 5, "network": {"init_std": 1}}, FILE)
    assert (settings.l2, settings.recency, settings.network.init_std) == (1.0, 5.0, 1.0)


def test_an_unknown_key_is_refused_with_those_that_are_allowed():
    message = message_of("mf", {"epoch": 3})
    assert "epoch is unknown" in message
    for key in TRAINING_KEYS:
        assert key in message


@pytest.mark.parametrize(("name", "key"), [("mf", "top"), ("mf", "history"), ("ncf", "history"), ("dlrm", "mlp_dim")])
def test_a_size_of_another_network_is_refused_with_those_that_are_allowed(name, key):
    message = message_of(name, {"network": {key: 8}})
    assert f"network: {key} is unknown" in message
    for field in fields(ALL_NETWORKS[name].settings):
        assert field.name in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("epochs", "64", "integer"),
        ("epochs", True, "integer"),
        ("epochs", 2.5, "integer"),
        ("epochs", None, "integer"),
        ("epochs", 0, "greater than 0"),
        ("epochs", -1, "greater than 0"),
        ("patience", 0, "greater than 0"),
        ("batch_size", 0, "greater than 0"),
        ("batch_size", [64], "integer"),
        ("learning_rate", "0.1", "number"),
        ("learning_rate", True, "number"),
        ("learning_rate", 0, "greater than 0"),
        ("embedding_rate", -0.1, "greater than or equal to 0"),
        ("averaging", 1, "less than 1"),
        ("l2", -1, "greater than or equal to 0"),
        ("negatives", -1, "greater than or equal to 0"),
        ("seed", -1, "greater than or equal to 0"),
        ("refit", 1, "boolean"),
        ("refit", "yes", "boolean"),
        ("schedule", "linear", "'constant' or 'cosine'"),
        ("precision", "float16", "'auto', 'float32' or 'bfloat16'"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(key, value, allowed):
    message = message_of("mf", {key: value})
    assert f"{key} is {json.dumps(value)}" in message
    assert allowed in message


@pytest.mark.parametrize(
    ("name", "key", "value", "allowed"),
    [
        ("mf", "dim", "64", "integer"),
        ("mf", "dim", True, "integer"),
        ("mf", "dim", 0, "greater than 0"),
        ("mf", "init_std", 0, "greater than 0"),
        ("dlrm", "dropout", 1, "less than 1"),
        ("dlrm", "dropout", -0.1, "greater than or equal to 0"),
        ("dlrm", "top", [], "at least 1 item"),
        ("dlrm", "top", 64, "array"),
        ("dlrm", "history", -1, "greater than or equal to 0"),
        ("dlrm", "user_statistics", 1, "boolean"),
        ("ncf", "dropout", 1, "less than 1"),
        ("ncf", "mlp_dim", -1, "greater than or equal to 0"),
    ],
)
def test_a_wrong_size_is_refused_with_what_is_allowed(name, key, value, allowed):
    message = message_of(name, {"network": {key: value}})
    assert f"network: {key} is {json.dumps(value)}" in message
    assert allowed in message


def test_a_width_within_a_list_is_checked_too():
    message = message_of("dlrm", {"network": {"top": [64, 0]}})
    assert "top.1 is 0" in message
    assert "greater than 0" in message


@pytest.mark.parametrize("name", ["dlrm", "mf"])
def test_pretraining_is_refused_for_a_network_without_branches(name):
    message = message_of(name, {"pretraining": 3})
    assert f"pretraining is 3; {name} has no branches" in message
    assert from_json(name, {"pretraining": 0}, FILE).pretraining == 0
    assert from_json("ncf", {"pretraining": 3}, FILE).pretraining == 3


# -- what a study found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"settings": {}, "metric": 1}, "metric is unknown; allowed is: settings, study"),
        ({"study": {}}, "settings is missing"),
        ({"settings": []}, "settings is []"),
        ({"settings": {}, "study": 3}, "study is 3"),
    ],
)
def test_a_study_of_another_form_is_refused(value, expected):
    with pytest.raises(UserError) as error:
        validated(Found, value, FILE)
    assert str(error.value).startswith(f"{FILE}: {expected}")


def test_defaults_of_another_form_are_refused(tmp_path):
    path = tmp_path / "ml-1m.json"
    write_json(path, {"rating": {"mf": {"settings": {}, "trials": 3}}})
    with pytest.raises(UserError) as error:
        read_defaults(path)
    assert str(error.value).startswith(f"{path}: rating.mf.trials is unknown")


def test_a_wrong_default_is_refused_with_its_file_and_place(tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.settings.DEFAULTS", tmp_path)
    path = tmp_path / "ml-1m.json"
    write_json(path, {"rating": {"dlrm": {"settings": {"network": {"dropout": 1}}}}})
    with pytest.raises(UserError) as error:
        settings_for("rating", "dlrm", "ml-1m")
    assert str(error.value).startswith(f"{path}, rating, dlrm, network: dropout is 1; ")
    with pytest.raises(UserError, match="network: dropout is 1"):
        registry.default_settings("rating", "dlrm", "ml-1m", 0)


def test_wrong_settings_that_tune_found_are_refused_with_their_file(tmp_path):
    run = Run(tmp_path / "ml-100k")
    path = run.tuning("rating", "dlrm") / "best.json"
    path.parent.mkdir(parents=True)
    write_json(path, {"settings": {"network": {"dims": 64}}})
    with pytest.raises(UserError) as error:
        registry.chosen_settings(run, "rating", "dlrm", 0)
    assert str(error.value).startswith(f"{path}, network: dims is unknown; allowed is: dim, init_std")


# -- changes -----------------------------------------------------------------------------------------------------------


def test_changes_replace_what_they_name_and_nothing_else():
    settings = TrainSettings(network=NCFSettings(dim=8, top=(8, 4)), epochs=7, seed=5)
    assert with_changes("ncf", settings, {}, "--x") == settings
    assert with_changes("ncf", settings, {"epochs": None, "network": None}, "--x") == settings
    changed = with_changes("ncf", settings, {"epochs": 9, "network": {"dim": 16}}, "--x")
    assert changed == replace(settings, epochs=9, network=replace(settings.network, dim=16))
    assert (settings.epochs, settings.network.dim) == (7, 8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epoch": 3}, "--x: epoch is unknown"),
        ({"epochs": 0}, "--x: epochs is 0; "),
        ({"epochs": "3"}, '--x: epochs is "3"; '),
        ({"network": {"history": 3}}, "--x, network: history is unknown; allowed is: dim, init_std, mlp_dim"),
        ({"network": {"dropout": 1}}, "--x, network: dropout is 1; "),
        ({"network": 3}, "--x, network: the value is 3; "),
    ],
)
def test_wrong_changes_are_refused(changes, expected):
    with pytest.raises(UserError) as error:
        with_changes("ncf", TrainSettings(network=NCFSettings()), changes, "--x")
    assert str(error.value).startswith(expected)


# -- config.json -------------------------------------------------------------------------------------------------------


def config_in(folder: Path, **changes) -> Path:
    write_json(folder / "config.json", {**asdict(CONFIG), **changes})
    return folder


def test_a_configuration_is_read_as_it_was_written(tmp_path):
    found = read_config(config_in(tmp_path))
    assert json.dumps(asdict(found)) == json.dumps(asdict(CONFIG))
    assert from_json("dlrm", found.settings, "x") == TrainSettings(network=DLRMSettings())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epoch": 3}, "epoch is unknown; allowed is: format, model, protocol"),
        ({"epochs": "3"}, 'epochs is "3"; '),
        ({"epochs": True}, "epochs is true; "),
        ({"seed": 1.5}, "seed is 1.5; "),
        ({"validation": {"auc": "high"}}, 'validation.auc is "high"; '),
        ({"trained_on": "train"}, 'trained_on is "train"; '),
        ({"settings": []}, "settings is []; "),
    ],
)
def test_a_configuration_of_another_form_is_refused(tmp_path, changes, expected):
    with pytest.raises(UserError) as error:
        read_config(config_in(tmp_path, **changes))
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: {expected}")


def test_a_configuration_with_a_missing_key_is_refused(tmp_path):
    values = asdict(CONFIG)
    del values["weights"]
    write_json(tmp_path / "config.json", values)
    with pytest.raises(UserError, match="weights is missing"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [[], 3, {}, {**asdict(CONFIG), "format": CONFIG_FORMAT - 1}])
def test_a_configuration_of_another_version_is_refused(tmp_path, content):
    write_json(tmp_path / "config.json", content)
    with pytest.raises(UserError, match="another version of Marquee"):
        read_config(tmp_path)
