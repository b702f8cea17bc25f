"""TensorBoard events of a training, read back with TensorBoard's own reader."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from marquee.app import main
from models.protocols.base import PROTOCOLS
from models.training.events import NOT_METRICS, Events
from models.training.settings import settings_for
from models.training.train import HISTORY, train

CPU = torch.device("cpu")
ROWS = [
    {"epoch": 1, "train_loss": 0.75, "samples": 10, "seconds": 0.1, "auc": 0.5, "hr@10": None},
    {"epoch": 2, "train_loss": 0.5, "samples": 10, "seconds": 0.1, "auc": 0.625, "hr@10": 0.25},
]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every scalar, by its name."""
    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def expected(history: list[dict]) -> dict[str, list]:
    """What a history becomes, but for training again on validation rows."""
    metrics = {f"validation/{name}": name for name in history[0] if name not in NOT_METRICS}
    return {
        tag: [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in history if row[name] is not None]
        for tag, name in {"train/loss": "train_loss", **metrics}.items()
    }


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path):
    events = Events(tmp_path / "dlrm")
    events.fitted(ROWS[0])
    assert scalars(tmp_path / "dlrm") == {"train/loss": [(1, 0.75)], "validation/auc": [(1, 0.5)]}
    events.fitted(ROWS[1])
    assert scalars(tmp_path / "dlrm") == expected(ROWS)
    events.refitted({"epoch": 1, "train_loss": 0.5, "samples": 12, "seconds": 0.1})
    assert scalars(tmp_path / "dlrm") == expected(ROWS) | {"refit/loss": [(1, 0.5)]}
    events.close()


def test_the_events_of_an_earlier_training_are_superseded(tmp_path):
    for rows in ([{**row, "train_loss": 9.0} for row in ROWS], ROWS[:1]):
        events = Events(tmp_path)
        for row in rows:
            events.fitted(row)
        events.close()
    assert scalars(tmp_path) == expected(ROWS[:1])


def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch):
    events = Events(tmp_path)
    with monkeypatch.context() as patched:

        def full() -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(events.writer, "flush", full)
        with pytest.raises(UserError, match=r"cannot be written any more.*No space left") as error:
            events.fitted(ROWS[0])
    assert "\n" not in str(error.value)
    events.close()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["leave-one-out", "random-split"])
def test_a_training_s_events_are_its_history(prepared, tmp_path, protocol):
    """Also of one that was stopped and resumes, and of a model that is up to date."""
    settings = settings_for(protocol, "mf", epochs=3, batch_size=512, refit=True)
    seen = []

    def stopped(by: float, note: str) -> None:
        seen.extend(scalars(tmp_path / "events").get("train/loss", ()) if note.startswith("epoch 3") else ())
        if note.startswith("epoch 2"):
            raise KeyboardInterrupt

    target = tmp_path / "mf"
    with pytest.raises(KeyboardInterrupt):
        train(prepared, protocol, "mf", settings, CPU, stopped, target=target, events=Events(tmp_path / "events"))
    assert [step for step, _ in scalars(tmp_path / "events")["train/loss"]] == [1, 2]
    events = Events(tmp_path / "events")
    config = train(prepared, protocol, "mf", settings, CPU, lambda *_: None, target=target, events=events)
    events.close()
    history = read_json(target / HISTORY)
    assert {name.removeprefix("validation/") for name in expected(history)} >= set(PROTOCOLS[protocol].metrics)
    found = scalars(tmp_path / "events")
    assert [step for step, _ in found.pop("refit/loss")] == list(range(1, config.best_epoch + 1))
    assert found == expected(history)
    events = Events(tmp_path / "reused")
    assert train(prepared, protocol, "mf", settings, CPU, lambda *_: None, target=target, events=events) is None
    events.close()
    assert scalars(tmp_path / "reused") == expected(history)


# -- the command line --------------------------------------------------------------------------------------------------


def command(run: Run, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--dataset", run.root.name, "--runs", str(run.root.parent)])
    return stopped.value.code


@pytest.mark.slow
def test_the_command_writes_a_folder_for_each_protocol_and_model(prepared, tmp_path, capsys):
    folder = tmp_path / "made" / "for it"
    options = ["--model", "ncf", "--epochs", "1", "--batch-size", "512", "--set", "refit=false"]
    run = Run(tmp_path / prepared.root.name)
    run.root.mkdir()
    for name in ("tables", "features"):
        (run.root / name).symlink_to(prepared.root / name)
    assert command(run, "train", *options, "--tensorboard", str(folder)) == 0
    found = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("events.*")}
    assert found == {"leave-one-out/ncf", "random-split/ncf"}
    for name in found:
        assert scalars(folder / name) == expected(read_json(run.models / name / HISTORY))


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(prepared, tmp_path, capsys, name):
    (tmp_path / "file").write_text("not a folder")
    before = sorted(prepared.root.rglob("*"))
    assert command(prepared, "train", "--tensorboard", str(tmp_path / name)) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"error: --tensorboard {tmp_path / name} cannot be written: ")
    assert output.err.count("\n") == 1
    assert "choose another folder" in output.err
    assert [path for path in sorted(prepared.root.rglob("*")) if path.name != ".lock"] == [
        path for path in before if path.name != ".lock"
    ]
