"""A study's budget of seconds, and `resume`: what counts, what is cut, and what may go on."""

import json

import optuna
import pytest
import torch

from core.errors import UserError
from models import shipping, trials, tuning
from models.search import TRIALS, StudySettings
from models.study_files import read_study
from models.training import settings as training_settings

CPU = torch.device("cpu")


def tune(run, protocol, name, advance=lambda *_: None, say=lambda _: None, **search):
    return tuning.tune(run, protocol, name, StudySettings(**{"trials": None, "seed": 5, **search}), CPU, advance, say)


def kept(run, protocol, name):
    """The trials of the study's own file."""
    return read_study(run.tuning(protocol, name) / TRIALS).trials


@pytest.fixture
def run(prepared, tmp_path):
    """The shared features under a run folder of the test's own."""
    for name in ("tables", "features"):
        (tmp_path / name).symlink_to(getattr(prepared, name))
    return type(prepared)(tmp_path)


def test_a_budget_of_seconds_is_the_sum_over_the_trials_and_is_used_up(run):
    reported = []
    study = tune(run, "leave-one-out", "ease", seconds=0.3, advance=lambda by, _: reported.append(by))["study"]
    trials_of = kept(run, "leave-one-out", "ease")
    assert study["budget"] == 0.3
    assert study["complete"] == len(trials_of) >= 1
    assert study["seconds"] >= 0.3
    assert sum(reported) == pytest.approx(study["seconds"], abs=0.1)
    assert sum(reported[:-1]) < 0.3  # the last one began within the budget
    assert "--seconds 0.3" in study["command"]
    assert "--trials" not in study["command"]
    assert study["threads"] == [torch.get_num_threads()]
    assert study["hardware"][0].endswith("cores")


def test_the_first_of_two_bounds_ends_a_study(run):
    assert tune(run, "leave-one-out", "ease", trials=2, seconds=1000)["study"]["trials"] == 2


def test_a_study_goes_on_with_what_is_left_of_its_seconds(run):
    first = tune(run, "leave-one-out", "ease", seconds=0.3)["study"]
    notes = []
    again = tune(run, "leave-one-out", "ease", seconds=0.3, advance=lambda by, note: notes.append((by, note)))["study"]
    assert again == first  # nothing was left
    assert notes == [(0.3, f"resumes after trial {first['trials']}")]
    more = tune(run, "leave-one-out", "ease", seconds=first["seconds"] + 0.3)["study"]
    assert more["trials"] > first["trials"]


@pytest.mark.slow
def test_a_network_s_trial_is_cut_where_the_seconds_are_used_up_and_counted_as_cut(run):
    """The second trial begins within the budget and is past it after its first epoch."""
    first = tune(run, "random-split", "mf", trials=1)["study"]
    budget = first["seconds"] + 0.01
    study = tune(run, "random-split", "mf", seconds=budget)["study"]
    before, last = kept(run, "random-split", "mf")
    assert (last.state, last.value, last.epochs) == ("cut", None, 1)
    assert (study["trials"], study["complete"], study["cut"], study["failed"]) == (1, 1, 1, 0)
    assert study["seconds"] > budget
    assert study["trial"] == before.number
    # With more seconds, what was cut is tried again, whole.
    tune(run, "random-split", "mf", trials=2)
    again = kept(run, "random-split", "mf")[-1]
    assert again.state == "complete"
    assert (again.parameters, again.start) == (last.parameters, last.start)


def test_a_budget_that_no_trial_fits_in_is_refused_in_a_line(run):
    with pytest.raises(UserError, match=r"no trial of this study came to its end; ask for more than --seconds 0\.001"):
        tune(run, "random-split", "mf", seconds=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
def test_a_killed_study_resumes_with_the_same_trials(run, tmp_path, monkeypatch, resume):
    """Killed in the middle of its third trial, which has used seconds that nobody asked for."""
    tune(run, "random-split", "mf", trials=5, epochs=2)
    whole = [(trial.state, trial.value, trial.epochs, trial.parameters) for trial in kept(run, "random-split", "mf")]
    (run.root / "tuning").rename(tmp_path / "before")
    plain, begun = trials.fit, []

    def killed(*arguments):
        begun.append(1)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(trials, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(run, "random-split", "mf", trials=5, epochs=2)
    monkeypatch.setattr(trials, "fit", plain)
    said = []
    study = tune(run, "random-split", "mf", trials=5, epochs=2, resume=resume, say=said.append)["study"]
    again = kept(run, "random-split", "mf")
    assert [(trial.state, trial.value, trial.epochs, trial.parameters) for trial in again] == whole
    assert [trial.number for trial in again] == [0, 1, 3, 4, 5]
    assert study["seconds"] == pytest.approx(sum(trial.seconds for trial in again), abs=0.5)
    assert said == []


def test_resume_without_a_study_is_refused_and_begins_none(run):
    with pytest.raises(UserError, match=r"ease has no study to go on with; run python -m marquee tune .* without"):
        tune(run, "leave-one-out", "ease", trials=1, resume=True)
    assert not (run.root / "tuning").exists()


def test_resume_of_another_origin_is_refused_and_says_what_changed(run):
    tune(run, "leave-one-out", "ease", trials=1)
    with pytest.raises(UserError, match=r"cannot go on: its seed changed; run python -m marquee tune .* without"):
        tune(run, "leave-one-out", "ease", trials=2, resume=True, seed=6)
    assert len(kept(run, "leave-one-out", "ease")) == 1


def test_a_new_study_beside_an_earlier_one_says_so(run):
    said = []
    tune(run, "leave-one-out", "ease", trials=1, say=said.append)
    assert said == []
    tune(run, "leave-one-out", "ease", trials=1, seed=6, say=said.append)
    assert said == ["ease, leave-one-out: seed changed since the last study, so a new one begins"]


def test_a_study_from_before_origins_were_kept_is_of_another_version(run):
    folder = run.tuning("leave-one-out", "ease")
    folder.mkdir(parents=True)
    optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="0123456789abcdef")
    with pytest.raises(UserError, match="its version of tune changed"):
        tune(run, "leave-one-out", "ease", trials=1, resume=True)


def put(path, protocol, name, entry):
    defaults = json.loads(path.read_text())
    defaults[protocol][name] = entry
    path.write_text(json.dumps(defaults))


def test_a_study_whose_best_settings_were_shipped_goes_on(run, tmp_path, monkeypatch):
    """What it found is what others start from then; its own trials share what lies outside of the search space."""
    defaults = tmp_path / "defaults"
    defaults.mkdir()
    for path in training_settings.DEFAULTS.glob("*.json"):
        (defaults / path.name).write_bytes(path.read_bytes())
    for place in (shipping, training_settings):
        monkeypatch.setattr(place, "DEFAULTS", defaults)
    monkeypatch.setattr(shipping, "STUDIES", tmp_path / "studies")
    found = tune(run, "leave-one-out", "ease", trials=2)
    path = shipping.ship(run.root.name, "leave-one-out", "ease", found, run.tuning("leave-one-out", "ease") / TRIALS)
    entry = json.loads(path.read_text())["leave-one-out"]["ease"]
    assert entry["study"]["file"] == f"{run.root.name}/leave-one-out/ease.json"
    shipped = read_study(tmp_path / "studies" / entry["study"]["file"])
    assert shipped.trial(entry["study"]["trial"], "").value == entry["study"]["value"]
    put(path, "leave-one-out", "ease", {"settings": {"l2": 33.0}})  # as if it had found something else
    again = tune(run, "leave-one-out", "ease", trials=3, resume=True)
    assert again["study"]["trials"] == 3


@pytest.mark.slow
def test_the_trials_that_a_study_starts_with_are_marked(run):
    tune(run, "random-split", "mf", trials=3, epochs=1)
    study = read_study(run.tuning("random-split", "mf") / TRIALS)
    marked = [trial.start for trial in study.trials]
    assert marked == [*range(len(study.starts)), *[None] * (3 - len(study.starts))]
    for trial in study.trials:
        assert study.settings(trial.number, "here").epochs > 1  # the bound is of the trials alone
