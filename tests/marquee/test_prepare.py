"""Whose features `prepare` makes: those that `run` asks for, others on request, and none are left over."""

import json

import pytest

from core.artifacts import read_manifest
from core.run_folder import Run
from marquee.app import main
from tests.names import DEFAULT_PROTOCOLS, FOLDS, TEMPORAL


@pytest.fixture
def run(prepared, tmp_path) -> Run:
    """The tables of `prepared`."""
    run = Run(tmp_path / prepared.root.name)
    run.root.mkdir()
    run.tables.symlink_to(prepared.tables)
    return run


def command(run: Run, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--dataset", run.root.name, "--runs", str(run.root.parent)])
    return int(stopped.value.code or 0)


def features(run: Run) -> set[str]:
    return {path.name for path in run.features.iterdir()}


def test_prepare_makes_what_run_asks_for(run):
    assert command(run, "prepare") == 0
    assert features(run) == set(DEFAULT_PROTOCOLS)


def test_another_protocol_is_prepared_alone_and_brought_up_to_date_with_the_others(run, capsys):
    assert command(run, "prepare", "--protocol", TEMPORAL) == 0
    assert features(run) == {TEMPORAL}
    before = read_manifest(run.features_of(TEMPORAL))["fingerprint"]
    assert command(run, "prepare", "--seed", "7") == 0
    assert features(run) == {*DEFAULT_PROTOCOLS, TEMPORAL}
    assert read_manifest(run.features_of(TEMPORAL))["fingerprint"] != before
    assert json.loads((run.features_of(TEMPORAL) / "features.json").read_text())["seed"] == 7
    assert "u1" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [TEMPORAL, FOLDS[0]])
def test_training_says_how_a_protocol_s_features_are_made(prepared, tmp_path, capsys, name):
    run = Run(tmp_path / prepared.root.name)
    run.root.mkdir()
    for place in ("tables", "features"):
        (run.root / place).symlink_to(getattr(prepared, place))
    assert command(run, "train", "--protocol", name, "--model", "mf") == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error: {run.features}/{name.removeprefix('rating-')} is missing or incomplete; run: ")
    assert f"python -m marquee prepare --protocol {name} --dataset" in said
    assert "\n" not in said
