"""Studies: what they search, that they resume where they were stopped, and that they look at validation only."""

import json
import shutil
from dataclasses import replace

import optuna
import pytest
import torch

from core.errors import UserError
from core.json_files import read_json
from models import registry, shipping, trials, tuning, tuning_space
from models.baselines.base import baselines_of
from models.protocols.base import PROTOCOLS as REGISTERED
from models.registry import chosen_settings, default_settings
from models.search import STARTS, StudySettings
from models.studies import open_study
from models.study_files import KeptStudy, KeptTrial, write_study
from models.training import settings as training_settings
from models.training.settings import DEFAULTS, WHOLE, TrainSettings, defaults_file, from_json, read_defaults, to_json
from tests.names import DEFAULT_PROTOCOLS, NETWORKS, PROTOCOLS, RATING, networks_of

CPU = torch.device("cpu")
EVERY = [
    (protocol, name)
    for protocol in PROTOCOLS
    for name in (*networks_of(protocol), *(n for n, baseline in baselines_of(protocol).items() if baseline.space))
]


def tune(run, protocol, name, trials, seed, advance=lambda *_: None, **more):
    """What a study finds."""
    return tuning.tune(run, protocol, name, StudySettings(trials=trials, seed=seed, **more), CPU, advance)


def without_seconds(found):
    """What a study found, without what the clock said."""
    return {**found, "study": {key: value for key, value in found["study"].items() if key != "seconds"}}


@pytest.fixture
def run(prepared, tmp_path):
    """The shared features under a run folder of the test's own."""
    for name in ("tables", "features"):
        (tmp_path / name).symlink_to(getattr(prepared, name))
    return type(prepared)(tmp_path)


@pytest.mark.parametrize(("protocol", "name"), EVERY)
def test_every_point_of_a_space_makes_settings(protocol, name):
    space = tuning_space.space(protocol, name)
    base = default_settings(protocol, name, tuning.START, 0).settings
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(5):
        chosen = study.ask(tuning_space.distributions_of(space)).params
        found = tuning_space.with_parameters(base, space, chosen)
        assert type(found) is type(base)
        assert tuning_space.parameters_of(found, space) == chosen


@pytest.mark.parametrize(("protocol", "name"), EVERY)
def test_a_study_starts_inside_its_space(protocol, name):
    space = tuning_space.space(protocol, name)
    start = default_settings(protocol, name, tuning.START, 0).settings
    assert tuning_space.parameters_of(start, space).keys() == space.keys()


def test_what_lies_outside_a_space_is_left_out():
    space = tuning_space.space("random-split", "mf")
    odd = replace(TrainSettings(), l2=0.0, batch_size=777)
    assert not {"l2", "batch_size"} & tuning_space.parameters_of(odd, space).keys()


def test_what_can_be_tuned():
    assert tuning.names_of("leave-one-out", "all") == [*networks_of("leave-one-out"), "ease", "als", "itemknn"]
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
    assert without_seconds(again) == without_seconds(whole)
    assert (run.tuning(protocol, name) / "importance.png").read_bytes()[:4] == b"\x89PNG"


def test_a_trial_that_was_killed_is_forgotten(run):
    tune(run, "leave-one-out", "ease", 1, 3)
    storage = f"sqlite:///{run.tuning('leave-one-out', 'ease') / 'study.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    study.ask(tuning_space.distributions_of(tuning_space.space("leave-one-out", "ease")))
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
    assert after.epochs == before.epochs == 20
    assert study["value"] >= study["start_value"]
    if after != before:
        assert study["all_epochs"]["best"] >= study["all_epochs"]["start"]


def test_of_trials_that_are_nearly_as_good_the_fastest_wins(run):
    tune(run, "leave-one-out", "ease", 6, 3)
    storage = f"sqlite:///{run.tuning('leave-one-out', 'ease') / 'study.db'}"
    trials = optuna.load_study(study_name=None, storage=storage).trials
    found = tune(run, "leave-one-out", "ease", 6, 3, tolerance=1.0)
    fastest = min(trials, key=lambda trial: trial.user_attrs["seconds"])
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

    plain = trials.fit
    monkeypatch.setattr(trials, "fit", breaks)
    with pytest.raises(UserError, match="no trial of this study came to its end"):
        tune(run, "random-split", "mf", 1, 5, epochs=1)
    monkeypatch.setattr(trials, "fit", plain)
    found = tune(run, "random-split", "mf", 2, 5, epochs=1)
    assert (found["study"]["failed"], found["study"]["pruned"], found["study"]["trials"]) == (1, 0, 2)


# -- what a study starts with, and what it leaves ----------------------------------------------------------------------


def put_best(run, protocol, name, settings) -> None:
    folder = run.tuning(protocol, name)
    folder.mkdir(parents=True)
    (folder / "best.json").write_text(json.dumps({"settings": settings}))


@pytest.fixture
def fitted(monkeypatch) -> list:
    """The settings of every network that a study trains, in order."""
    found, plain = [], trials.fit

    def spy(model, features, settings, *rest):
        found.append(settings)
        return plain(model, features, settings, *rest)

    monkeypatch.setattr(trials, "fit", spy)
    return found


def test_a_study_of_a_network_starts_with_what_train_would_use_and_with_its_seed(run, fitted):
    """Settings that lie outside of the search space too: no penalty, and a batch size that is not among the choices."""
    put_best(run, "random-split", "mf", {"l2": 0.0, "batch_size": 777, "epochs": 2, "network": {"dim": 24}})
    before = chosen_settings(run, "random-split", "mf", 1000).settings
    found = tune(run, "random-split", "mf", 1, 11)
    assert fitted == [replace(before, seed=11)]
    assert chosen_settings(run, "random-split", "mf", 1000).settings == before
    assert found["study"]["trial"] == 0
    tune(run, "random-split", "mf", 3, 11)
    default = default_settings("random-split", "mf", run.root.name, 1000).settings
    start = default_settings("random-split", "mf", tuning.START, 1000).settings
    assert fitted[1:] == [replace(default, seed=11), replace(start, seed=11)]


def test_another_seed_of_a_study_trains_other_weights(run):
    values = [tune(run, "random-split", "mf", 1, seed, epochs=1)["study"]["value"] for seed in (1, 2)]
    assert values[0] != values[1]


def test_a_study_of_a_baseline_starts_with_what_train_would_use_and_with_its_seed(run, monkeypatch):
    put_best(run, "leave-one-out", "als", {"factors": 8, "iterations": 2})
    before = chosen_settings(run, "leave-one-out", "als", 1000).settings
    fitted, plain = [], registry.fit_baseline

    def spy(name, features, parts, settings, seed):
        fitted.append((settings, seed))
        return plain(name, features, parts, settings, seed)

    monkeypatch.setattr(registry, "fit_baseline", spy)
    found = tune(run, "leave-one-out", "als", 1, 11)
    assert fitted == [(before, 11)]
    assert found["study"]["value"] == found["study"]["start_value"]
    assert chosen_settings(run, "leave-one-out", "als", 1000).settings == before


def test_the_bound_of_epochs_is_of_the_trials_alone(run, fitted):
    put_best(run, "random-split", "mf", {"epochs": 3, "batch_size": 512})
    found = tune(run, "random-split", "mf", 4, 5, epochs=1)
    assert [settings.epochs for settings in fitted[:4]] == [1, 1, 1, 1]
    chosen = chosen_settings(run, "random-split", "mf", 1000).settings
    assert "epochs" not in found["settings"] or found["settings"]["epochs"] > 1
    if found["study"]["trial"] != 0:
        assert [settings.epochs for settings in fitted[4:]] == [3, fitted[5].epochs]
        assert fitted[5].epochs > 1
    assert chosen.epochs > 1


@pytest.mark.parametrize(("best", "expected"), [(0.6, 777), (0.8, 512)])
def test_what_is_worse_with_all_its_epochs_is_not_taken(run, monkeypatch, best, expected):
    """The start is behind after one epoch; with all epochs, what was found validates worse, or better."""
    put_best(run, "random-split", "mf", {"epochs": 3, "batch_size": 777})

    def judged(model, features, settings, *_):
        is_start = settings.batch_size == 777
        value = (0.5 if is_start else 0.55) if settings.epochs == 1 else (0.7 if is_start else best)
        return [{"auc": value}], 1

    monkeypatch.setattr(trials, "fit", judged)
    found = tune(run, "random-split", "mf", 2, 5, epochs=1)
    assert (found["settings"]["batch_size"] == 777) == (expected == 777)
    assert found["study"]["all_epochs"] == {"start": 0.7, "best": best}


def test_other_options_are_another_study(run):
    notes = []
    for seed in (1, 1, 2):
        tune(run, "leave-one-out", "ease", 2, seed, lambda _, note: notes.append(note))
    assert sum(note.startswith("resumes") for note in notes) == 1


def test_a_trial_that_waits_since_a_kill_is_not_asked_twice(run):
    tune(run, "leave-one-out", "ease", 1, 3)
    storage = f"sqlite:///{run.tuning('leave-one-out', 'ease') / 'study.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    study.enqueue_trial({"l2": 3.0}, user_attrs={STARTS: 0})
    found = tune(run, "leave-one-out", "ease", 4, 3)
    assert found["study"]["trials"] == 4
    assert not optuna.load_study(study_name=None, storage=storage).get_trials(states=(optuna.trial.TrialState.WAITING,))


def test_a_study_lies_in_its_folder_whatever_the_name(tmp_path):
    for name in ("a?b", "a%20b", "{SCHEMA_VERSION}", "a#b c"):
        folder = tmp_path / name
        folder.mkdir()
        study = open_study(folder, REGISTERED["random-split"], "origin")
        study.enqueue_trial({})
        assert [path.name for path in folder.iterdir()] == ["study.db"]
        again = open_study(folder, REGISTERED["random-split"], "origin")
        assert len(again.trials) == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_a_study_that_is_none_is_refused_in_a_line(run):
    folder = run.tuning("leave-one-out", "ease")
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"no database, but long enough to be read as one" * 100)
    with pytest.raises(UserError, match=r"study\.db is not a study of this version of Optuna; delete it"):
        tune(run, "leave-one-out", "ease", 1, 3)


def test_what_cannot_be_judged_on_validation_is_not_tuned(run, monkeypatch):
    monkeypatch.setattr(
        tuning, "undefined_in_validation", lambda features: {"full_ndcg@10": "no user has 10 unseen movies"}
    )
    with pytest.raises(UserError, match="validation full_ndcg@10 is undefined, as no user has 10 unseen movies"):
        tune(run, "leave-one-out", "ease", 1, 3)


# -- shipped defaults --------------------------------------------------------------------------------------------------


def shipped(dataset, protocol, name, settings, tmp_path, monkeypatch):
    """Ships what a study of one trial found."""
    monkeypatch.setattr(shipping, "STUDIES", tmp_path / "studies")
    trial = KeptTrial(number=0, state="complete", value=0.7, seconds=1.5, epochs=3, start=0)
    study = KeptStudy(
        dataset=dataset,
        protocol=protocol,
        model=name,
        metric="auc",
        seed=42,
        epochs=None,
        base={},
        starts=[settings],
        trials=[trial],
    )
    write_study(tmp_path / "trials.json", study)
    found = {"settings": settings, "study": {"trial": 0, "value": 0.7}}
    return shipping.ship(dataset, protocol, name, found, tmp_path / "trials.json")


@pytest.mark.parametrize("rows", [1_000, 500_000, 5_000_000])
def test_a_shipped_file_that_says_little_leaves_the_rest_as_it_was(rows, tmp_path, monkeypatch):
    for place in (shipping, training_settings):
        monkeypatch.setattr(place, "DEFAULTS", tmp_path)
    for name in WHOLE:
        shutil.copy(DEFAULTS / f"{name}.json", tmp_path)
    known = {(protocol, name): default_settings(protocol, name, "tiny", rows) for protocol, name in EVERY}
    path = shipped("tiny", "random-split", "mf", {"l2": 0.5}, tmp_path, monkeypatch)
    for (protocol, name), before in known.items():
        after = default_settings(protocol, name, "tiny", rows)
        if (protocol, name) == ("random-split", "mf"):
            assert after.settings == replace(TrainSettings(), l2=0.5)
            assert after.source == path
        else:
            assert after == before
    assert training_settings.settings_for("leave-one-out", "mf", "tiny", rows) == known["leave-one-out", "mf"].settings


def test_defaults_that_cannot_be_shipped_are_refused_at_once(tmp_path, monkeypatch):
    for place in (shipping, training_settings):
        monkeypatch.setattr(place, "DEFAULTS", tmp_path)
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match=r"a\.json cannot be written"):
        shipping.shipped_file("a")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(UserError, match=r"b\.json"):
        shipping.shipped_file("b")
    monkeypatch.setattr(shipping, "DEFAULTS", tmp_path / "none")
    with pytest.raises(UserError, match="cannot be written"):
        shipping.shipped_file("c")


def test_what_is_found_is_shipped_as_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "DEFAULTS", tmp_path)
    path = shipped("ml-100k", "random-split", "mf", {"l2": 0.5}, tmp_path, monkeypatch)
    shipped("ml-100k", "random-split", "ncf", {}, tmp_path, monkeypatch)
    assert json.loads(path.read_text())["random-split"].keys() == {"mf", "ncf"}


@pytest.mark.parametrize("path", [DEFAULTS / f"{name}.json" for name in WHOLE], ids=lambda path: path.stem)
def test_the_shipped_defaults_are_whole_and_as_short_as_can_be(path):
    defaults = read_defaults(path)
    assert set(DEFAULT_PROTOCOLS) <= defaults.keys() <= set(PROTOCOLS)
    for protocol, models in defaults.items():
        assert set(NETWORKS) <= models.keys() <= {*networks_of(protocol), *baselines_of(protocol)}
        for name in models.keys() & set(networks_of(protocol)):
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
