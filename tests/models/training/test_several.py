"""One training in several processes: the parts of a batch are the batch, and torchrun ends with the same weights."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from models.data.load import load_features
from models.networks.base import NETWORKS, build
from models.training.epoch import squares_of_rows, torch_steps
from models.training.frameworks import require_framework, steps_of
from models.training.loop import FIT, Callbacks, TrainingLoop
from models.training.settings import TrainSettings
from models.training.several import PartedSteps, part_of
from tests.models.sizes import training_of
from tests.models.training.test_checkpoint import checkpoint_of, copy_of
from tests.names import HANG_SECONDS

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).resolve().parents[3]
PLAIN = TrainSettings(learning_rate=0.01, l2=1e-2, recency=5.0, negatives=3, batch_size=256, epochs=2, seed=3)
SIZES = {"dim": 8, "bottom": (16,), "top": (16, 8), "history": 5}
OF_ROWS = [name for name, network in NETWORKS.items() if not network.learns_sequences]
SHARED = {"own negatives": 0, "shared negatives": 16}


def loop_of(prepared, name: str, shared: int) -> TrainingLoop:
    features = load_features(prepared, "leave-one-out")
    settings = replace(training_of(name, PLAIN, {**SIZES, "init_std": 0.3}), shared_negatives=shared)
    model = build(name, features, settings.network, settings.seed)
    return TrainingLoop(model, features, settings, CPU, parts=FIT, callbacks=Callbacks())


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("name", OF_ROWS)
def test_the_gradients_of_the_parts_add_up_to_those_of_the_batch(prepared, name, shared, monkeypatch):
    loop = loop_of(prepared, name, shared)
    trainee, task = loop.trainee, loop.task
    batch = next(task.batches.epoch(1))
    weights = [one for one in trainee.model.parameters() if one.requires_grad]
    trainee.model.train()
    with squares_of_rows(trainee.model, task.settings.l2) as squares:
        loss = PartedSteps(trainee, task, squares).backward(batch, len(batch))
        whole = [one.grad.clone() for one in weights]
        trainee.optimizer.zero_grad(set_to_none=True)
        parts = torch.zeros(())
        for rank in range(3):
            monkeypatch.setenv("RANK", str(rank))
            part = part_of(batch, 0 if shared else PLAIN.negatives, rank, 3)
            parts += PartedSteps(trainee, task, squares).backward(part, len(batch))
    torch.testing.assert_close(parts, loss)
    for one, gradient in zip(weights, whole, strict=True):
        torch.testing.assert_close(one.grad, gradient, atol=1e-6, rtol=1e-4)
    assert any(bool(gradient.abs().max() > 1e-4) for gradient in whole)


def test_more_processes_than_positives_leave_some_with_nothing(prepared):
    batch = next(loop_of(prepared, "dlrm", 0).task.batches.epoch(1))
    positives = len(batch) // 4
    parts = [part_of(batch, 3, rank, positives + 5) for rank in range(positives + 5)]
    assert sum(len(part) for part in parts) == len(batch)
    assert sorted({len(part) for part in parts}) == [0, 4]
    assert all(len(part.history.movies) * 4 == len(part) for part in parts)


def test_one_process_takes_the_usual_steps(prepared):
    assert steps_of("torch", load_features(prepared, "leave-one-out")) is torch_steps


def test_what_is_done_in_one_process_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="training sasrec is done in one process; run it without torchrun"):
        require_framework("sasrec", training_of("sasrec", PLAIN, SIZES))
    with pytest.raises(UserError, match="training in TensorFlow is done in one process"):
        require_framework("ncf", replace(training_of("ncf", PLAIN, SIZES), framework="tensorflow"))


# -- two processes -----------------------------------------------------------------------------------------------------


def train_command(run: Run, *more: str) -> list[str]:
    """`train` of a small DLRM, to be run by Python or by torchrun."""
    small = ["network.dim=8", "network.top=[16, 8]", "network.dropout=0", "network.history=5", "schedule=constant"]
    settings = [*small, "learning_rate=0.0005", "shared_negatives=16", "refit=false", *more]
    changes = [part for setting in settings for part in ("--set", setting)]
    where = ["--dataset", run.root.name, "--runs", str(run.root.parent), "--protocol", "leave-one-out"]
    return ["-m", "marquee", "train", *where, "--model", "dlrm", "--batch-size", "128", *changes]


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model("leave-one-out", "dlrm") / "weights.safetensors")


ENDED = "error: another process of this training has ended; run it again, and it resumes after its last whole epoch"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def epochs_in(kept: Path) -> list[dict]:
    """The epochs of a checkpoint; none in the moment in which it is replaced."""
    try:
        return read_json(kept)["history"]
    except (UserError, OSError):
        return []


@pytest.mark.slow
@pytest.mark.parametrize("embedding_rate", [0, 0.001], ids=["by Adam", "row-wise"])
def test_two_processes_end_with_the_weights_of_one(prepared, tmp_path, embedding_rate):
    runs = [copy_of(prepared, tmp_path / name) for name in ("one", "two")]
    for run, how in zip(runs, ([sys.executable], TORCHRUN)):
        command = [*how, *train_command(run, f"embedding_rate={embedding_rate}"), "--epochs", "2"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("loading PyTorch") == 1  # the first alone speaks
        assert "Traceback" not in done.stderr
    one, two = map(weights_of, runs)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0, equal_nan=True, msg=key)
    configs = [read_json(run.model("leave-one-out", "dlrm") / "config.json") for run in runs]
    assert configs[0]["validation"] == pytest.approx(configs[1]["validation"], abs=1e-4)
    assert not checkpoint_of(runs[1].model("leave-one-out", "dlrm")).exists()


@pytest.mark.slow
def test_where_one_process_is_killed_all_end_and_the_next_run_resumes(prepared, tmp_path):
    run = copy_of(prepared, tmp_path)
    command = [*TORCHRUN, *train_command(run), "--epochs", "400", "--patience", "400"]
    kept = checkpoint_of(run.model("leave-one-out", "dlrm")) / "progress.json"
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        watch = psutil.Process(started.pid)
        while not kept.exists():
            assert started.poll() is None, started.stderr.read()
        workers = [one for one in watch.children() if "marquee" in one.cmdline()]
        assert len(workers) == 2
        last = next(one for one in workers if one.environ()["RANK"] == "1")
        last.send_signal(signal.SIGKILL)
        _, said = started.communicate(timeout=HANG_SECONDS)
    assert started.returncode
    psutil.wait_procs(workers, timeout=HANG_SECONDS)
    assert not any(one.is_running() for one in workers)
    own = [line for line in said.splitlines() if line.startswith(("error:", "stopped"))]  # torchrun reports too
    assert own in (["stopped"], [ENDED])
    assert "marquee/training.py" not in said
    assert not run.model("leave-one-out", "dlrm").exists()
    before = epochs_in(kept)
    again = [*TORCHRUN, *train_command(run), "--epochs", "400", "--patience", "400"]
    with subprocess.Popen(again, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        while len(epochs_in(kept)) <= len(before):
            assert started.poll() is None, started.stderr.read()
        started.terminate()
        started.communicate(timeout=HANG_SECONDS)
    assert epochs_in(kept)[: len(before)] == before  # with the seconds that they took the first time
