"""The search of all settings, and the table of what they were chosen from."""

import json
import re
from dataclasses import replace
from types import ModuleType

import pytest

from core.errors import UserError
from core.run_folder import Run
from models.registry import tunable
from models.study_files import KeptStudy, KeptTrial, write_study
from models.training.settings import DEFAULTS
from tests.names import EVERY_NETWORK, PROTOCOLS
from tests.test_bench import load


@pytest.fixture(scope="module")
def searching() -> ModuleType:
    load("inputs")
    return load("search")


@pytest.fixture(scope="module")
def table() -> ModuleType:
    load("inputs")
    return load("study_table")


def studies(searching, tmp_path, *models):
    run = Run(tmp_path / "runs" / "ml-100k")
    return searching.studies(run, tmp_path / "work", 600, list(PROTOCOLS), list(models))


def test_every_model_and_protocol_is_searched_with_the_same_seconds(searching, tmp_path):
    found = studies(searching, tmp_path)
    assert [(study.protocol, study.model) for study in found] == [(p, m) for p in PROTOCOLS for m in tunable(p)]
    assert {study.seconds for study in found} == {600}
    assert len({study.folder for study in found}) == len(found)
    for study in found:
        assert "--seconds 600" in " ".join(study.command)
        assert ("--trials" in study.command) == (study.model not in EVERY_NETWORK)
    assert {study.model for study in studies(searching, tmp_path, "mf")} == {"mf"}


def test_what_had_as_many_seconds_is_passed_over(searching, tmp_path):
    (study,) = [one for one in studies(searching, tmp_path, "mf") if one.protocol == "random-split"]
    assert not study.has_ended()
    study.folder.mkdir(parents=True)
    (study.folder / "done.json").write_text('{"seconds": 600}')
    assert study.has_ended()
    assert not replace(study, seconds=601).has_ended()
    assert searching.search([study], tmp_path / "work", 2)
    assert re.fullmatch(r"\S+ \S+ 1 of 1: random-split, mf has ended before\n", (tmp_path / "work/log.txt").read_text())


def test_a_study_has_a_run_folder_of_its_own_with_links_to_the_features(searching, tmp_path):
    study = studies(searching, tmp_path, "mf")[0]
    for folder in (study.run.tables, study.run.features):
        folder.mkdir(parents=True)
    study.link()
    study.link()  # as when it goes on
    own = study.folder / "ml-100k"
    assert {path.name: path.resolve() for path in own.iterdir()} == {
        "tables": study.run.tables.resolve(),
        "features": study.run.features.resolve(),
    }


@pytest.mark.slow
def test_a_study_that_fails_is_said_to_and_the_others_go_on(searching, tmp_path):
    """There are no features."""
    study = studies(searching, tmp_path, "mf")[0]
    assert not searching.search([study], tmp_path / "work", 1)
    assert "failed with exit code 2: see" in (tmp_path / "work/log.txt").read_text()
    assert "run: python -m marquee prepare" in (study.folder / "log.txt").read_text()
    assert not study.has_ended()


# -- the table ---------------------------------------------------------------------------------------------------------


def rows(text: str) -> dict[tuple[str, str, str], list[str]]:
    """The cells of each row by dataset, question and model."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {tuple(cells[:3]): cells[3:] for cells in found}


def test_the_table_says_which_settings_were_chosen_by_hand(table):
    found = rows(table.studies_section({"ml-100k": "MovieLens-100K", "ml-1m": "MovieLens-1M"}))
    for dataset, title in (("ml-100k", "MovieLens-100K"), ("ml-1m", "MovieLens-1M")):
        for protocol, models in json.loads((DEFAULTS / f"{dataset}.json").read_text()).items():
            for name, entry in models.items():
                cells = found[title, protocol, table._title(protocol, name)]
                assert (cells[0] == "none") == (not entry["study"].get("trials"))
                assert ("by hand" in cells[-1]) == (cells[0] == "none")


def test_the_table_counts_the_trials_and_seconds_of_a_study(table, tmp_path, monkeypatch):
    trials = [
        KeptTrial(number=0, state="complete", value=0.7, seconds=400.0, epochs=3, start=0),
        KeptTrial(number=1, state="pruned", seconds=100.0, epochs=1, parameters={"dim": 8}),
        KeptTrial(number=2, state="cut", seconds=101.0, epochs=1, parameters={"dim": 8}),
    ]
    head = {"dataset": "ml-100k", "protocol": "random-split", "model": "mf", "metric": "auc", "seed": 1, "epochs": None}
    (tmp_path / "s").mkdir()
    write_study(tmp_path / "s/mf.json", KeptStudy(**head, base={}, starts=[{"l2": 0.5}], trials=trials))
    study = {
        **{"metric": "auc", "value": 0.7, "trials": 2, "complete": 1, "pruned": 1, "failed": 0, "cut": 1},
        **{"trial": 0, "seconds": 601.0, "file": "s/mf.json"},
    }
    for name, folder in (("DEFAULTS", tmp_path), ("STUDIES", tmp_path)):
        monkeypatch.setattr(table, name, folder)
    path = tmp_path / "ml-100k.json"
    path.write_text(json.dumps({"random-split": {"mf": {"settings": {"l2": 0.5}, "study": study}}}))
    mf = table._title("random-split", "mf")
    found = rows(table.studies_section({"ml-100k": "ML"}))
    assert found["ML", "random-split", mf] == ["1", "1", "1", "601", "AUC 0.7000", "the start"]
    assert found["ML", "random-split", table._title("random-split", "ncf")][-1] == "the class's own, chosen by hand"
    path.write_text(json.dumps({"random-split": {"mf": {"settings": {"l2": 0.4}, "study": study}}}))
    with pytest.raises(UserError, match="the settings are not those of trial 0"):
        table.studies_section({"ml-100k": "ML"})
