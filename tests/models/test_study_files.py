"""The small files of studies: written a trial a line, read back, and compared with the defaults that name them."""

import json
from dataclasses import replace

import pytest

from core.errors import UserError
from core.json_files import write_json
from models.study_files import STUDIES, KeptStudy, KeptTrial, checked, read_study, study_of, write_study
from models.training.settings import DEFAULTS, Found, from_json, read_defaults

STUDY = KeptStudy(
    dataset="ml-100k",
    protocol="random-split",
    model="ncf",
    metric="auc",
    seed=42,
    epochs=None,
    base={"network": {"dim": 8, "init_std": 0.03}, "epochs": 7},
    starts=[{"learning_rate": 0.5}],
    trials=[
        KeptTrial(number=0, state="complete", seconds=1.5, value=0.71, epochs=7, start=0, parameters={"dim": 16}),
        KeptTrial(number=2, state="cut", seconds=0.25, epochs=1, parameters={"dim": 16}),
        KeptTrial(
            number=3,
            state="complete",
            seconds=2.0,
            value=0.72,
            epochs=5,
            parameters={"dim": 16, "top": [32, 16], "l2": 0.25},
        ),
    ],
)
FOUND = Found(
    {"network": {"dim": 16, "init_std": 0.03, "top": [32, 16]}, "l2": 0.25, "epochs": 7}, {"trial": 3, "value": 0.72}
)


def test_a_study_is_written_a_trial_a_line_and_read_back(tmp_path):
    write_study(tmp_path / "ncf.json", STUDY)
    assert read_study(tmp_path / "ncf.json") == STUDY
    lines = (tmp_path / "ncf.json").read_text().splitlines()
    assert '    {"number": 2, "state": "cut", "seconds": 0.25, "epochs": 1, "parameters": {"dim": 16}},' in lines
    assert len([line for line in lines if '"number"' in line]) == 3


def test_the_settings_of_a_trial_are_the_base_with_its_parameters_or_a_start():
    assert STUDY.settings(3, "here") == from_json("ncf", FOUND.settings, "here")
    assert STUDY.settings(0, "here") == from_json("ncf", {"learning_rate": 0.5}, "here")
    with pytest.raises(UserError, match="here: there is no trial 1; its trials are 0, 2, 3"):
        STUDY.settings(1, "here")
    odd = replace(STUDY, trials=[replace(STUDY.trials[0], start=1)])
    with pytest.raises(UserError, match="here: trial 0 is start 1, but there are 1 starts"):
        odd.settings(0, "here")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (replace(FOUND, settings={**FOUND.settings, "l2": 0.3}), "the settings are not those of trial 3 of there"),
        (
            replace(FOUND, study={"trial": 3, "value": 0.73}),
            r"the value is 0\.73; trial 3 of there is complete, with 0\.72",
        ),
        (replace(FOUND, study={"trial": 2, "value": None}), "trial 2 of there is cut"),
        (replace(FOUND, study={"trial": 9, "value": 0.72}), "there: there is no trial 9"),
        (replace(FOUND, study={"value": 0.72}), "the study names no trial of there"),
    ],
)
def test_defaults_that_are_not_of_the_trial_that_they_name_are_refused(found, message):
    checked(FOUND, STUDY, "here", "there")
    with pytest.raises(UserError, match=message):
        checked(found, STUDY, "here", "there")


def test_a_study_s_file_is_read_where_the_defaults_name_it(tmp_path):
    named = replace(FOUND, study={**FOUND.study, "file": "a/ncf.json"})
    assert study_of(FOUND, "random-split", "ncf", "here", tmp_path) is None
    with pytest.raises(UserError, match=r"a/ncf\.json is missing"):
        study_of(named, "random-split", "ncf", "here", tmp_path)
    (tmp_path / "a").mkdir()
    write_study(tmp_path / "a/ncf.json", STUDY)
    assert study_of(named, "random-split", "ncf", "here", tmp_path) == STUDY
    with pytest.raises(UserError, match="is a study of random-split, ncf; here names it for rating, ncf"):
        study_of(named, "rating", "ncf", "here", tmp_path)
    values = json.loads((tmp_path / "a/ncf.json").read_text())
    write_json(tmp_path / "a/ncf.json", {**values, "trials": [{"number": 0, "state": "won", "seconds": 1.0}]})
    with pytest.raises(UserError, match=r"a/ncf\.json: trials\.0\.state is \"won\""):
        study_of(named, "random-split", "ncf", "here", tmp_path)


@pytest.mark.parametrize("path", sorted(DEFAULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_default_that_claims_a_study_has_its_file(path):
    """The file, or a note that says why there is none; the settings are those of the trial that the file names."""
    for protocol, models in read_defaults(path).items():
        for name, found in models.items():
            study = study_of(found, protocol, name, str(path))
            assert study or not found.study or found.study.get("note"), f"{path}, {protocol}, {name}"
            assert study is None or study.dataset == path.stem


def test_every_study_that_is_kept_is_named_by_the_defaults():
    named = {
        found.study.get("file")
        for path in DEFAULTS.glob("*.json")
        for models in read_defaults(path).values()
        for found in models.values()
    }
    for path in STUDIES.rglob("*.json"):
        assert path.relative_to(STUDIES).as_posix() in named
        assert path.stat().st_size < 100_000
