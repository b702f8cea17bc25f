"""`train`: what is trained side by side, and that it comes out the same as one model after the other."""

import shutil
from dataclasses import replace

import psutil
import pytest
import torch

from core.artifacts import verify
from core.errors import UserError
from core.json_files import read_json
from core.resources import read_stages
from core.run_folder import Run
from marquee import training
from marquee.training import WORTH_PROCESSES, TrainOptions, train, train_seeds
from models.evaluation.compare_seeds import compare

WEIGHTS = "weights.safetensors"
FOUR = 4 * training.BYTES_EACH


@pytest.fixture
def run(prepared, tmp_path) -> Run:
    run = Run(tmp_path / prepared.root.name)
    shutil.copytree(prepared.root, run.root, ignore=shutil.ignore_patterns("models"))
    return run


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many cores, and memory for so many processes: `machine(cores, memory)`."""

    def made(cores: int, memory: int) -> None:
        monkeypatch.setattr("dask.system.CPU_COUNT", cores)
        monkeypatch.setattr("distributed.system.MEMORY_LIMIT", memory)
        there = psutil.virtual_memory()._replace(available=memory)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: there)

    return made


@pytest.fixture
def found(run) -> list[training._Training]:
    """All trainings of `run`, each of a million samples."""
    trainings = training._trainings(run, TrainOptions())
    return [replace(one, samples=WORTH_PROCESSES) for one in trainings]


def test_models_are_trained_on_as_many_cores_as_there_are(found, machine):
    machine(3, FOUR)
    assert training._together(found) == (found, 3)
    machine(64, 100 * FOUR)
    assert training._together(found) == (found, len(found))


def test_as_many_at_once_as_memory_holds(found, machine):
    machine(8, FOUR)
    assert training._together(found) == (found, 4)
    machine(8, FOUR // 2 - 1)
    assert training._together(found) == ([], 1)


def test_one_core_or_one_model_needs_no_process(found, machine):
    machine(1, FOUR)
    assert training._together(found) == ([], 1)
    machine(2, FOUR)
    assert training._together(found[:1]) == ([], 1)
    assert training._together([]) == ([], 1)


def test_small_trainings_are_not_worth_a_process(found, machine):
    machine(2, FOUR)
    first, second = found[:2]
    large = replace(first, samples=100 * WORTH_PROCESSES)
    assert training._together([large, replace(second, samples=WORTH_PROCESSES - 1)]) == ([], 1)
    both = [large, second]
    assert training._together(both) == (both, 2)


def test_what_uses_all_cores_is_trained_alone(found, machine, monkeypatch):
    machine(2, FOUR)
    wide = replace(found[0], threads=2)
    assert training._together([wide, *found[1:3]]) == (found[1:3], 2)
    monkeypatch.setattr("models.training.devices.pick_device", lambda _: torch.device("cuda"))
    assert training._together(found) == ([], 1)


@pytest.mark.slow
def test_side_by_side_gives_the_same_files_as_one_after_the_other(run, machine, monkeypatch, capsys):
    machine(2, FOUR)
    monkeypatch.setattr(training, "WORTH_PROCESSES", 0)
    options = TrainOptions(protocols=("leave-one-out",), changes={"epochs": 1})
    train(run, options)
    said = capsys.readouterr().out
    assert "2 models at a time" in said
    assert said.count("best epoch") == 3
    files = [run.model("leave-one-out", name) / WEIGHTS for name in ("dlrm", "ncf", "mf")]
    beside = [path.read_bytes() for path in files]
    for path in files:
        verify(path.parent)
    assert not list(run.models.glob("*/.*"))
    beside_mb = read_stages(run)["train"]["peak_mb"]

    train(run, options)
    said = capsys.readouterr().out
    assert "at a time" not in said
    assert said.count("unchanged, reused") == 3
    shutil.rmtree(run.models)
    train(run, replace(options, threads=1))
    assert "at a time" not in capsys.readouterr().out
    assert [path.read_bytes() for path in files] == beside
    assert beside_mb > 1.5 * read_stages(run)["train"]["peak_mb"]


@pytest.mark.slow
def test_an_error_of_one_model_is_said_and_ends_the_others(run, machine, monkeypatch):
    machine(2, FOUR)
    monkeypatch.setattr(training, "WORTH_PROCESSES", 0)
    with pytest.raises(UserError, match="lower --learning-rate"):
        train(run, TrainOptions(protocols=("leave-one-out",), changes={"network": {"init_std": 1e30}}))
    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_compare_trains_its_seeds_side_by_side_and_uses_them(run, machine, monkeypatch, capsys):
    machine(2, FOUR)
    monkeypatch.setattr(training, "WORTH_PROCESSES", 0)
    monkeypatch.setattr("models.registry.rivals_for", lambda *_: ("mf",))
    train_seeds(run, ("leave-one-out",), [5, 6], "auto", {}, ())
    assert "2 models at a time" in capsys.readouterr().out
    folders = [run.of_seed("leave-one-out", "mf", seed) for seed in (5, 6)]
    before = [(folder / "manifest.json").stat().st_mtime_ns for folder in folders]
    seeds = [read_json(folder / "config.json")["seed"] for folder in folders]
    assert seeds == [5, 6]
    train_seeds(run, ("leave-one-out",), [5, 6], "auto", {}, ())
    assert not capsys.readouterr().out
    compare(run, ("leave-one-out",), [5, 6], torch.device("cpu"), lambda *_: None)
    assert [(folder / "manifest.json").stat().st_mtime_ns for folder in folders] == before
