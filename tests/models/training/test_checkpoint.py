"""Training that was stopped and resumes: the same result to the bit as if it had not been stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.artifacts import MANIFEST, verify
from core.json_files import read_json
from core.run_folder import DEFAULT_SEED, Run
from models.data.load import load_features, training_rows
from models.networks.base import build
from models.training.checkpoint import Checkpoint
from models.training.loop import Callbacks, fit
from models.training.settings import TrainSettings, settings_for
from models.training.train import train
from tests.models.sizes import training_of
from tests.names import COMPARED, DEFAULT_PROTOCOLS, HANG_SECONDS

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).resolve().parents[3]
# Everything that has a state of its own: dropout, the running mean, weights by recency, decay, the rates' schedule.
SIZES = {"dim": 8, "bottom": (16,), "top": (16, 8), "dropout": 0.3, "history": 3}
PLAIN = TrainSettings(
    learning_rate=0.01,
    schedule="cosine",
    l2=1e-3,
    weight_decay=1e-4,
    averaging=0.99,
    recency=5.0,
    negatives=2,
    batch_size=256,
    epochs=4,
    patience=4,
    seed=3,
)
SETTINGS = {name: training_of(name, PLAIN, SIZES) for name in COMPARED}
ROWWISE = {"by Adam": 0.0, "row-wise": 0.05}


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The synthetic data's tables count as large, and reports are frequent enough to stop within an epoch."""
    monkeypatch.setattr("models.training.epoch.LARGE_TABLE", 10)
    monkeypatch.setattr("models.training.epoch.REPORT_STEPS", 2)
    monkeypatch.setattr("models.training.epoch.AVERAGE_STEPS", 4)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    make_small(monkeypatch)


def copy_of(prepared: Run, folder: Path) -> Run:
    """The prepared run, to be written to; without the models that other tests have trained there."""
    not_prepared = shutil.ignore_patterns("models", "repository", "evaluation.json")
    shutil.copytree(prepared.root, folder / prepared.root.name, ignore=not_prepared)
    return Run(folder / prepared.root.name)


@pytest.fixture
def new_run(prepared, tmp_path) -> Callable[[str], Run]:
    return lambda name: copy_of(prepared, tmp_path / name)


@pytest.fixture(scope="module")
def never_stopped(prepared, tmp_path_factory) -> Run:
    """A run whose random-split models were trained with `SETTINGS` without a stop."""
    run = copy_of(prepared, tmp_path_factory.mktemp("never stopped"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        for name in COMPARED:
            train(run, "random-split", name, SETTINGS[name], CPU, Reported())
    return run


class Reported:
    """An `advance` that remembers. It stops the training at the first report after a note or an epoch."""

    def __init__(self, stop_after: int | str | None = None):
        self.stop_after = f"epoch {stop_after}:" if isinstance(stop_after, int) else stop_after
        self.samples, self.notes = 0.0, []

    def __call__(self, by: float, note: str) -> None:
        if self.stop_after is not None and any(line.startswith(self.stop_after) for line in self.notes):
            raise KeyboardInterrupt
        self.samples += by
        if note:
            self.notes.append(note)

    @property
    def resumed(self) -> bool:
        return any("resumes after epoch" in note for note in self.notes)


def stopped(run: Run, protocol: str, name: str, settings: TrainSettings, after: int) -> Path:
    """Trains until within the epoch after `after`; returns the checkpoint's folder."""
    with pytest.raises(KeyboardInterrupt):
        train(run, protocol, name, settings, CPU, Reported(after))
    folder = checkpoint_of(run.model(protocol, name))
    assert not run.model(protocol, name).exists()
    verify(folder)
    assert len(read_json(folder / "progress.json")["history"]) == after
    return folder


def result_of(run: Run, protocol: str, name: str) -> tuple[dict[str, torch.Tensor], list[dict], dict]:
    """Weights, history without seconds, and what else the configuration says of the result."""
    folder = run.model(protocol, name)
    verify(folder)
    history = [
        {key: value for key, value in row.items() if key != "seconds"} for row in read_json(folder / "history.json")
    ]
    config = read_json(folder / "config.json")
    result = {key: config[key] for key in ("epochs", "best_epoch", "validation", "seed", "settings", "monitor")}
    return load_file(folder / "weights.safetensors"), history, result


def assert_same_result(one: Run, other: Run, protocol: str, name: str) -> None:
    (weights, history, result), (expected, of_other, result_of_other) = (
        result_of(run, protocol, name) for run in (one, other)
    )
    assert history == of_other
    assert result == result_of_other
    assert weights.keys() == expected.keys()
    different = [key for key in weights if not torch.equal(weights[key], expected[key])]
    assert not different


def checkpoint_of(model: Path) -> Path:
    """The folder of a model's checkpoint."""
    return Checkpoint.beside(model, "").folder


def leftovers(run: Run, protocol: str, name: str) -> list[str]:
    """What lies beside the model."""
    return sorted(path.name for path in run.model(protocol, name).parent.iterdir() if path.name != name)


# -- stopped and resumed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("rowwise", ROWWISE)
def test_a_stopped_training_ends_as_an_uninterrupted_one(new_run, protocol, name, rowwise):
    settings = replace(SETTINGS[name], embedding_rate=ROWWISE[rowwise])
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    whole = Reported()
    train(uninterrupted, protocol, name, settings, CPU, whole)
    assert not whole.resumed

    folder = stopped(interrupted, protocol, name, settings, after=2)
    saved = load_file(folder / "tensors.safetensors")
    tables = len(build(name, load_features(interrupted, protocol), settings.network, 0).embedding_tables())
    assert sum(key.startswith("squares") for key in saved) == (tables if settings.embedding_rate else 0)

    again = Reported()
    config = train(interrupted, protocol, name, settings, CPU, again)
    assert again.notes[0] == "resumes after epoch 2, where it was stopped"
    assert [note.split(":")[0] for note in again.notes[1:]] == ["epoch 3", "epoch 4"]
    assert again.samples == whole.samples  # the bar ends where it would have
    assert config.epochs == 4
    assert_same_result(interrupted, uninterrupted, protocol, name)
    assert leftovers(interrupted, protocol, name) == leftovers(uninterrupted, protocol, name) == []
    assert train(interrupted, protocol, name, settings, CPU, Reported()) is None


def test_stopped_while_it_trains_on_validation_rows_too(new_run):
    settings = replace(SETTINGS["dlrm"], refit=True)
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    whole, first, again = Reported(), Reported("with validation rows, epoch 2"), Reported()
    config = train(uninterrupted, "rating", "dlrm", settings, CPU, whole)
    assert config.best_epoch > 2  # else choose a rate that learns more slowly
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, "rating", "dlrm", settings, CPU, first)
    assert leftovers(interrupted, "rating", "dlrm") == [".dlrm-refit.checkpoint", ".dlrm.checkpoint"]
    train(interrupted, "rating", "dlrm", settings, CPU, again)
    best = config.best_epoch
    assert [note.split(":")[0] for note in again.notes] == [
        "resumes after epoch 4, where it was stopped",
        "resumes after epoch 2, where it was stopped",
        *(f"with validation rows, epoch {number} of {best}" for number in range(3, best + 1)),
    ]
    assert again.samples == whole.samples
    assert_same_result(interrupted, uninterrupted, "rating", "dlrm")
    assert leftovers(interrupted, "rating", "dlrm") == leftovers(uninterrupted, "rating", "dlrm") == []


@pytest.mark.parametrize("after", ["a branch of NCF alone, epoch 2", "epoch 1:"], ids=["pretraining", "an epoch"])
def test_pretraining_is_done_again_where_no_epoch_was_whole_and_not_where_one_was(new_run, after):
    settings = replace(SETTINGS["ncf"], pretraining=2)
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    train(uninterrupted, "leave-one-out", "ncf", settings, CPU, Reported())
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, "leave-one-out", "ncf", settings, CPU, Reported(after))
    again = Reported()
    train(interrupted, "leave-one-out", "ncf", settings, CPU, again)
    assert again.resumed == (after == "epoch 1:")
    assert any("alone" in note for note in again.notes) != again.resumed
    assert_same_result(interrupted, uninterrupted, "leave-one-out", "ncf")


def test_stopped_again_and_again(new_run):
    settings = replace(SETTINGS["dlrm"], embedding_rate=0.05)
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    train(uninterrupted, "leave-one-out", "dlrm", settings, CPU, Reported())
    for after in (1, 2, 3):
        stopped(interrupted, "leave-one-out", "dlrm", settings, after)
    train(interrupted, "leave-one-out", "dlrm", settings, CPU, Reported())
    assert_same_result(interrupted, uninterrupted, "leave-one-out", "dlrm")


def test_the_best_epoch_may_lie_before_the_stop(new_run):
    """Its weights come from the checkpoint, and patience counts from it."""
    rates = {"learning_rate": 0.05, "averaging": 0.0, "batch_size": 128}
    settings = replace(SETTINGS["dlrm"], **rates, epochs=12, patience=3, seed=4)
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    config = train(uninterrupted, "random-split", "dlrm", settings, CPU, Reported())
    best = config.best_epoch
    assert config.epochs == best + 3 < 12  # else choose a rate that is worse
    stopped(interrupted, "random-split", "dlrm", settings, after=best + 1)
    train(interrupted, "random-split", "dlrm", settings, CPU, Reported())
    assert_same_result(interrupted, uninterrupted, "random-split", "dlrm")


def test_stopped_after_the_last_epoch_trains_no_more(never_stopped, new_run, monkeypatch):
    interrupted = new_run("interrupted")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("models.training.train.save_file", killed)  # the model's, not the checkpoint's
        with pytest.raises(KeyboardInterrupt):
            train(interrupted, "random-split", "dlrm", SETTINGS["dlrm"], CPU, Reported())
    assert leftovers(interrupted, "random-split", "dlrm") == [".dlrm.checkpoint"]
    again = Reported()
    train(interrupted, "random-split", "dlrm", SETTINGS["dlrm"], CPU, again)
    assert again.notes == ["resumes after epoch 4, where it was stopped"]
    assert_same_result(interrupted, never_stopped, "random-split", "dlrm")
    assert leftovers(interrupted, "random-split", "dlrm") == []


def test_stopped_in_the_first_epoch_leaves_nothing(new_run):
    run = new_run("run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, "random-split", "ncf", SETTINGS["ncf"], CPU, stop)
    folder = run.model("random-split", "ncf").parent
    assert not folder.exists() or not any(folder.iterdir())


def test_the_models_of_a_protocol_have_checkpoints_of_their_own(never_stopped, new_run):
    run = new_run("run")
    folders = [stopped(run, "random-split", name, SETTINGS[name], after=1) for name in COMPARED]
    assert len(set(folders)) == len(COMPARED)
    for name in COMPARED:
        again = Reported()
        train(run, "random-split", name, SETTINGS[name], CPU, again)
        assert again.resumed
        assert_same_result(run, never_stopped, "random-split", name)
        assert not checkpoint_of(run.model("random-split", name)).exists()


def test_without_a_place_for_it_there_is_no_checkpoint(prepared, tmp_path):
    features = load_features(prepared, "random-split")
    weights, settings = [], SETTINGS["ncf"]
    for checkpoint in (None, Checkpoint(tmp_path / "checkpoint", "made from this")):
        model = build("ncf", features, settings.network, settings.seed)
        fit(model, features, settings, CPU, Callbacks(advance=Reported(), checkpoint=checkpoint))
        weights.append(model.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())  # writing it changes nothing


# -- checkpoints that are not this training's --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"learning_rate": 0.02},
        {"embedding_rate": 0.05},
        {"precision": "bfloat16"},
        {"epochs": 5},
        {"network": replace(SETTINGS["dlrm"].network, dim=4)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_of_other_settings_is_not_used(never_stopped, new_run, other):
    interrupted = new_run("interrupted")
    stopped(interrupted, "random-split", "dlrm", replace(SETTINGS["dlrm"], **other), after=2)
    again = Reported()
    train(interrupted, "random-split", "dlrm", SETTINGS["dlrm"], CPU, again)
    assert not again.resumed
    assert_same_result(interrupted, never_stopped, "random-split", "dlrm")
    assert leftovers(interrupted, "random-split", "dlrm") == []


def flip_a_byte(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def another_history(folder: Path) -> None:
    progress = json.loads((folder / "progress.json").read_text())
    progress["best"] = 1 + progress["best"] % 2
    (folder / "progress.json").write_text(json.dumps(progress))


TAMPERINGS = {
    "a byte": flip_a_byte,
    "cut": cut,
    "history": another_history,
    "no progress": lambda folder: (folder / "progress.json").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "broken manifest": lambda folder: (folder / MANIFEST).write_text("{"),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_checkpoint_is_not_used(never_stopped, new_run, tampering):
    interrupted = new_run("interrupted")
    TAMPERINGS[tampering](stopped(interrupted, "random-split", "ncf", SETTINGS["ncf"], after=2))
    again = Reported()
    train(interrupted, "random-split", "ncf", SETTINGS["ncf"], CPU, again)
    assert not again.resumed
    assert_same_result(interrupted, never_stopped, "random-split", "ncf")
    assert leftovers(interrupted, "random-split", "ncf") == []


def test_what_a_kill_left_of_writing_a_checkpoint_is_removed(never_stopped, new_run):
    interrupted = new_run("interrupted")
    folder = stopped(interrupted, "random-split", "ncf", SETTINGS["ncf"], after=2)
    half = folder.with_name(f".{folder.name}.partial-12345")
    shutil.copytree(folder, half)
    (half / MANIFEST).unlink()
    train(interrupted, "random-split", "ncf", SETTINGS["ncf"], CPU, Reported())
    assert_same_result(interrupted, never_stopped, "random-split", "ncf")
    assert leftovers(interrupted, "random-split", "ncf") == []


def test_a_checkpoint_beside_a_finished_model_is_removed(new_run):
    """As one is that was killed between writing the model and removing its checkpoint."""
    run = new_run("run")
    folder = stopped(run, "random-split", "ncf", SETTINGS["ncf"], after=2)
    shutil.copytree(folder, run.root / "copy")
    train(run, "random-split", "ncf", SETTINGS["ncf"], CPU, Reported())
    shutil.move(run.root / "copy", folder)
    assert train(run, "random-split", "ncf", SETTINGS["ncf"], CPU, Reported()) is None
    assert leftovers(run, "random-split", "ncf") == []


def test_a_checkpoint_is_not_a_model(new_run):
    run = new_run("run")
    folder = stopped(run, "random-split", "ncf", SETTINGS["ncf"], after=2)
    assert {path.name for path in folder.iterdir()} == {"tensors.safetensors", "progress.json", MANIFEST}
    assert folder.name.startswith(".")
    assert folder.parent == run.model("random-split", "ncf").parent


# -- really killed -----------------------------------------------------------------------------------------------------


def train_command(run: Run, epochs: int) -> list[str]:
    # fmt: off
    return [
        sys.executable, "-m", "marquee", "train", "--runs", str(run.root.parent), "--dataset", run.root.name,
        "--model", "dlrm", "--protocol", "leave-one-out", "--epochs", str(epochs), "--patience", str(epochs),
        "--batch-size", "64", "--device", "cpu",
    ]
    # fmt: on


@pytest.mark.slow
def test_a_killed_process_ends_as_an_uninterrupted_one(new_run, monkeypatch):
    monkeypatch.undo()  # it does not reach the process below
    epochs = 10
    uninterrupted, interrupted = new_run("uninterrupted"), new_run("interrupted")
    rows = training_rows(uninterrupted, "leave-one-out")
    changes = {"epochs": epochs, "patience": epochs, "batch_size": 64, "seed": DEFAULT_SEED}
    settings = settings_for("leave-one-out", "dlrm", uninterrupted.root.name, rows, **changes)
    assert settings.network.dropout > 0
    train(uninterrupted, "leave-one-out", "dlrm", settings, CPU, Reported())

    folder = checkpoint_of(interrupted.model("leave-one-out", "dlrm"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = train_command(interrupted, epochs)
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        end = time.monotonic() + HANG_SECONDS
        while not (folder / MANIFEST).is_file() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(HANG_SECONDS)
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
    assert not interrupted.model("leave-one-out", "dlrm").exists()
    # Unless the kill fell between the two renames of a checkpoint's exchange, there is one.
    before = read_json(folder / "progress.json")["history"] if (folder / MANIFEST).is_file() else []
    assert len(before) < epochs

    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_result(interrupted, uninterrupted, "leave-one-out", "dlrm")
    history = read_json(interrupted.model("leave-one-out", "dlrm") / "history.json")
    assert history[: len(before)] == before  # the seconds too: they were not trained again
    assert leftovers(interrupted, "leave-one-out", "dlrm") == []
