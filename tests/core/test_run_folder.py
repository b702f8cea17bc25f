"""A run folder: the names in it, and that one process at a time writes there."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from core.run_folder import Run
from models.baselines.truth import is_synthetic
from models.protocols.base import PROTOCOLS as REGISTERED
from tests.names import DEFAULT_PROTOCOLS, EVERY_PROTOCOL, FOLDS, HANG_SECONDS, NETWORKS, RATING, SPLITS

CHECKOUT = Path(__file__).resolve().parents[2]
TRY_LOCK = """
import sys
from pathlib import Path
from core.errors import UserError
from core.run_folder import Run
try:
    with Run(Path(sys.argv[1])).lock():
        print("held", flush=True)
        sys.stdin.readline()
except UserError as error:
    print("refused:", error)
"""


def start(root: Path) -> subprocess.Popen:
    """Another process that takes the lock, says so and holds it until it reads a line."""
    command = [sys.executable, "-c", TRY_LOCK, str(root)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def try_in_another_process(root: Path) -> str:
    with start(root) as process:
        return process.communicate("\n", timeout=HANG_SECONDS)[0].strip()


def test_a_second_process_is_refused_until_the_lock_is_released(tmp_path):
    root = tmp_path / "runs" / "ml-1m"
    with Run(root).lock():
        answer = try_in_another_process(root)
        assert answer.startswith("refused:")
        assert str(root) in answer
        assert "\n" not in answer
    assert try_in_another_process(root) == "held"


def test_this_process_is_refused_while_another_holds_the_lock_and_not_after_it_was_killed(tmp_path):
    with start(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another marquee process"), Run(tmp_path).lock():
            pass
        process.kill()
        process.wait(timeout=HANG_SECONDS)
        with Run(tmp_path).lock():
            pass


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), Run(tmp_path).lock():
        raise RuntimeError("inside")
    with Run(tmp_path).lock():
        pass


def test_other_runs_are_not_held(tmp_path):
    with Run(tmp_path / "a").lock(), Run(tmp_path / "b").lock():
        assert (tmp_path / "a").is_dir()


def test_a_run_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught, Run(tmp_path / "file" / "run").lock():
        pass
    assert str(tmp_path / "file" / "run") in str(caught.value)
    assert "--runs" in str(caught.value)


def test_the_truth_is_known_where_the_tables_have_it(tmp_path):
    run = Run(tmp_path)
    assert not is_synthetic(None)
    assert not is_synthetic(run.tables)
    run.tables.mkdir()
    assert not is_synthetic(run.tables)
    (run.tables / "synth.json").write_text("{}")
    assert is_synthetic(run.tables)


def test_every_stage_has_a_place_of_its_own():
    run = Run(Path("runs/ml-1m"))
    places = [run.tables, run.stages, run.features, run.evaluation, run.latency, run.repository]
    trained = [(protocol, name) for protocol in EVERY_PROTOCOL for name in NETWORKS]
    places += [place(*one) for one in trained for place in (run.model, run.tuning)]
    places += [run.of_seed(*one, seed) for one in trained for seed in (1, 2)]
    assert len(set(places)) == len(places)
    assert all(run.root in place.parents for place in places)


def test_each_protocol_has_its_features_and_star_prediction_those_of_random_split():
    run = Run(Path("runs/ml-1m"))
    found = {protocol: run.features_of(REGISTERED[protocol].split) for protocol in REGISTERED}
    assert found == {protocol: run.features / SPLITS[protocol] for protocol in EVERY_PROTOCOL}
    assert [found[protocol] for protocol in DEFAULT_PROTOCOLS] == [
        run.features / protocol for protocol in DEFAULT_PROTOCOLS
    ]
    assert found[RATING] == found["random-split"]
    assert [found[name].name for name in FOLDS] == ["u1", "u2", "u3", "u4", "u5"]
    assert len(set(found.values())) == len(EVERY_PROTOCOL) - 1


# -- commands in messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "command"),
    [
        ("runs/ml-100k", "python -m marquee train"),
        ("runs/ml-1m", "python -m marquee train --dataset ml-1m"),
        ("elsewhere/ml-100k", "python -m marquee train --runs elsewhere"),
        ("/data/runs/ml-25m", "python -m marquee train --dataset ml-25m --runs /data/runs"),
        ("my runs/ml-100k", "python -m marquee train --runs 'my runs'"),
        ("it's/synth-$x", "python -m marquee train --dataset 'synth-$x' --runs 'it'\"'\"'s'"),
    ],
)
def test_a_command_names_what_differs_from_the_defaults(root, command):
    assert Run(Path(root)).command("train") == command


def test_a_command_keeps_its_own_options():
    assert Run(Path("runs/ml-1m")).command("recommend --user 1") == (
        "python -m marquee recommend --user 1 --dataset ml-1m"
    )


def test_a_command_can_be_pasted_into_a_shell():
    words = shlex.split(Run(Path("my runs/it's/synth-$x")).command("train"))
    assert words == ["python", "-m", "marquee", "train", "--dataset", "synth-$x", "--runs", "my runs/it's"]


# -- what a lock leaves ------------------------------------------------------------------------------------------------


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def fail(run: Run, name: str = "") -> None:
    with run.lock():
        if name:
            (run.root / name).mkdir()
        raise UserError("no")


def test_a_lock_leaves_no_empty_folder_after_success(tmp_path):
    with Run(tmp_path / "a" / "b" / "ml-1m").lock():
        assert (tmp_path / "a" / "b" / "ml-1m").is_dir()
    assert left(tmp_path) == []


def test_a_lock_leaves_no_empty_folder_after_failure(tmp_path):
    with pytest.raises(UserError, match="no"):
        fail(Run(tmp_path / "a" / "b" / "ml-1m"))
    assert left(tmp_path) == []


def test_a_lock_leaves_what_was_written(tmp_path):
    with pytest.raises(UserError, match="no"):
        fail(Run(tmp_path / "a" / "ml-1m"), "tables")
    assert left(tmp_path) == ["a", "a/ml-1m", "a/ml-1m/.lock", "a/ml-1m/tables"]


def test_a_lock_leaves_the_folders_that_were_there_before(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="no"):
        fail(Run(tmp_path / "a" / "ml-1m"))
    assert left(tmp_path) == ["a"]
    (tmp_path / "a" / "ml-1m").mkdir()
    with pytest.raises(UserError, match="no"):
        fail(Run(tmp_path / "a" / "ml-1m"))
    assert (tmp_path / "a" / "ml-1m").is_dir()


def test_a_lock_leaves_the_parents_that_others_use(tmp_path):
    with Run(tmp_path / "a" / "ml-1m").lock():
        (tmp_path / "a" / "other").mkdir()
    assert left(tmp_path) == ["a", "a/other"]


def test_a_lock_that_cannot_be_had_leaves_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--runs"), Run(tmp_path / "file" / "runs" / "ml-1m").lock():
        pass
    assert left(tmp_path) == ["file"]
