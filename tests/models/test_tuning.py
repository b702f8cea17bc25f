"""Studies: what they search, that they resume where they were stopped, and that they look at validation only."""

import json
from dataclasses import replace

import optuna
import pytest
import torch

from core.errors import UserError
from core.json_files import read_json
from models import tuning
from models.baselines.base import baselines_of
from models.registry import chosen_settings, default_settings
from models.training.settings import DEFAULTS, TrainSettings, defaults_file, from_json, read_defaults, to_json
from tests.names import DEFAULT_PROTOCOLS, NETWORKS, PROTOCOLS, RATING

CPU = torch.device("cpu")
EVERY = [
    (protocol, name)
    for protocol in PROTOCOLS
    for name in (*NETWORKS, *(n for n, baseline in baselines_of(protocol).items() if baseline.space))
]


def tune(run, protocol, name, trials, seed, advance=lambda *_: None, **more):
    """What a study finds."""
    return tuning.tune(run, protocol, name, tuning.StudySettings(trials=trials, seed=seed, **more), CPU, advance)


@pytest.fixture
def run(prepared, tmp_path):
    """The shared features under a run folder of the test's own."""
    for name in ("tables", "features"):
        (tmp_path / name).symlink_to(getattr(prepared, name))
    return type(prepared)(tmp_path)


@pytest.mark.parametrize(("protocol", "name"), EVERY)
def test_every_point_of_a_space_makes_settings(protocol, name):
    space = tuning.space(protocol, name)
    base = default_settings(protocol, name, tuning.START, 0).settings
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(5):
        chosen = study.ask(tuning.distributions_of(space)).params
        found = tuning.with_parameters(base, space, chosen)
        assert type(found) is type(base)
        assert tuning.parameters_of(found, space) == chosen


@pytest.mark.parametrize(("protocol", "name"), EVERY)
def test_a_study_starts_inside_its_space(protocol, name):
    space = tuning.space(protocol, name)
    start = default_settings(protocol, name, tuning.START, 0).settings
    assert tuning.parameters_of(start, space).keys() == space.keys()


def test_what_lies_outside_a_space_is_left_out():
    space = tuning.space("random-split", "mf")
    odd = replace(TrainSettings(), l2=0.0, batch_size=777)
    assert not {"l2", "batch_size"} & tuning.parameters_of(odd, space).keys()


def test_what_can_be_tuned():
    assert tuning.names_of("leave-one-out", "all") == [*NETWORKS, "ease", "als", "itemknn"]
    assert tuning.names_of("random-split", "ncf") == ["ncf"]
    with pytest.raises(UserError, match="'popularity' cannot be tuned for leave-one-out; choose one of dlrm"):
        tuning.names_of("leave-one-out", "popularity")


@pytest.mark.parametrize(("protocol", "name"), [("leave-one-out", "ease"), (RATING, "biases")])
def test_a_study_that_was_stopped_resumes_as_if_it_had_not_been(run, tmp_path, protocol, name):
    reported = []
    whole = tune(run, protocol, name, 6, 3, lambda by, note: reported.append((by, note)))
    assert sum(by for by, _ in reported) == 6
    (run.root / "tuning").rename(tmp_path / "before")
    tune(run, protocol, name, 2, 3)
    reported.clear()
    again = tune(run, protocol, name, 6, 3, lambda by, note: reported.append((by, note)))
    assert reported[0] == (2, "resumes after trial 2")
    assert again == whole
    assert (run.tuning(protocol, name) / "importance.png").read_bytes()[:4] == b"\x89PNG"


def test_a_trial_that_was_killed_is_forgotten(run):
    tune(run, "leave-one-out", "ease", 1, 3)
    storage = f"sqlite:///{run.tuning('leave-one-out', 'ease') / 'study.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    study.ask(tuning.distributions_of(tuning.space("leave-one-out", "ease")))
    found = tune(run, "leave-one-out", "ease", 2, 3)
    assert found["study"]["trials"] == 2


def test_a_model_s_study_prunes_keeps_the_best_and_train_takes_it(run):
    rows = 1000
    before = chosen_settings(run, "random-split", "mf", rows).settings
    found = tune(run, "random-split", "mf", 6, 5, epochs=4)
    study = found["study"]
    assert study["trials"] == 6
    assert study["metric"] == "auc"
    assert 0.5 < study["value"] < 1
    assert "--epochs 4" in study["command"]
    after = chosen_settings(run, "random-split", "mf", rows).settings
    assert after == from_json("mf", found["settings"], "best.json")
    assert after.epochs == 4 != before.epochs


def test_of_trials_that_are_nearly_as_good_the_fastest_wins(run):
    tune(run, "leave-one-out", "ease", 6, 3)
    storage = f"sqlite:///{run.tuning('leave-one-out', 'ease') / 'study.db'}"
    trials = optuna.load_study(study_name=None, storage=storage).trials
    found = tune(run, "leave-one-out", "ease", 6, 3, tolerance=1.0)
    fastest = min(trials, key=lambda trial: trial.duration)
    assert found["settings"] == fastest.params
    assert found["study"]["trial"] == fastest.number
    assert found["study"]["best_value"] == max(trial.value for trial in trials)
    assert found["study"]["command"].endswith("--tolerance 1")


def test_the_test_set_plays_no_part(run, monkeypatch):
    from models.data.features import Features

    asked = []
    for method in ("interactions", "candidates"):
        plain = getattr(Features, method)
        monkeypatch.setattr(Features, method, lambda self, part, plain=plain: asked.append(part) or plain(self, part))
    tune(run, "leave-one-out", "mf", 2, 5, epochs=1)
    tune(run, RATING, "biases", 2, 5)
    assert set(asked) == {"train", "valid"}


def test_a_training_that_breaks_down_is_a_bad_trial_and_no_more(run, monkeypatch):
    def breaks(*_, **__):
        raise UserError("training broke down")

    plain = tuning.fit
    monkeypatch.setattr(tuning, "fit", breaks)
    with pytest.raises(UserError, match="no trial of this study came to its end"):
        tune(run, "random-split", "mf", 1, 5, epochs=1)
    monkeypatch.setattr(tuning, "fit", plain)
    found = tune(run, "random-split", "mf", 2, 5, epochs=1)
    assert found["study"]["pruned"] == 1


def test_what_is_found_is_shipped_as_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "DEFAULTS", tmp_path)
    path = tuning.ship("ml-100k", "random-split", "mf", {"settings": {"l2": 0.5}, "study": {}})
    tuning.ship("ml-100k", "random-split", "ncf", {"settings": {}, "study": {}})
    assert json.loads(path.read_text())["random-split"].keys() == {"mf", "ncf"}


@pytest.mark.parametrize("path", sorted(DEFAULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_shipped_defaults_are_whole_and_as_short_as_can_be(path):
    defaults = read_defaults(path)
    assert set(DEFAULT_PROTOCOLS) <= defaults.keys() <= set(PROTOCOLS)
    for protocol, models in defaults.items():
        assert set(NETWORKS) <= models.keys() <= {*NETWORKS, *baselines_of(protocol)}
        for name in NETWORKS:
            settings = from_json(name, models[name].settings, str(path))
            assert from_json(name, to_json(settings), str(path)) == settings


def test_a_dataset_without_defaults_takes_those_of_its_size():
    assert defaults_file("ml-latest-small", 90_000) == DEFAULTS / "ml-100k.json"
    assert defaults_file("synth-ml-25m-0.04", 900_000) == DEFAULTS / "ml-1m.json"
    assert defaults_file("ml-25m", 24_000_000) == DEFAULTS / "large.json"
    assert defaults_file("ml-100k", 10**9) == DEFAULTS / "ml-100k.json"
    chosen = default_settings("random-split", "mf", "ml-latest-small", 90_000)
    assert chosen.source == DEFAULTS / "ml-100k.json"
    kept = read_json(DEFAULTS / "ml-100k.json")["random-split"]["mf"]["settings"]
    assert chosen.settings == from_json("mf", kept, "ml-100k.json")
