"""What a killed process leaves of a folder that it was about to replace, at every step of doing so."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import partial
from core.artifacts import is_current, new_folder, read_manifest, verify
from core.errors import UserError
from core.json_files import read_json, write_json
from core.partial import exchange, recover
from core.run_folder import LOCK, Run

STEPS = ("open", "os.", "shutil.", "fcntl.")  # the audit events of what reaches the file system
MOST_STEPS = 500


@pytest.fixture(params=["exchange", "no exchange"])
def way(request, monkeypatch) -> str:
    """With names exchanged at once, and as on a file system that cannot do that."""
    if request.param == "no exchange":
        monkeypatch.setattr(partial, "LIBC", object())
    return request.param


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Does `work` in a process that is killed just before its step `step`, from 1. Returns whether it ended before."""
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event: str, _: object) -> None:
            nonlocal steps
            if event.startswith(STEPS):
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def write(folder: Path, made_from: str, *names: str) -> None:
    with new_folder(folder, made_from) as out:
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(made_from)


def fail(folder: Path) -> None:
    with new_folder(folder, "third") as out:
        (out / "half.txt").write_text("half")
        raise RuntimeError("half way")


def present(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_process_killed_at_any_step_leaves_the_earlier_folder_or_the_new_one(tmp_path, way):
    seen = set()
    for step in range(1, MOST_STEPS):
        home = tmp_path / str(step)
        stage = home / "stage"
        write(stage, "first", "a.txt", "part/b.txt")
        done = killed_at(step, lambda stage=stage: write(stage, "second", "a.txt", "part/c.txt"))
        for after in ("read", "failing", "succeeding", "locked"):
            shutil.copytree(home, home.with_name(after))
        failing, succeeding, locked = (home.with_name(after) for after in ("failing", "succeeding", "locked"))

        seen.add(verify(home.with_name("read") / "stage")["fingerprint"])
        with pytest.raises(RuntimeError, match="half way"):
            fail(failing / "stage")
        assert present(failing) == {"stage"}, step
        seen.add(verify(failing / "stage")["fingerprint"])
        write(succeeding / "stage", "third", "d.txt")
        assert present(succeeding) == {"stage"}, step
        assert verify(succeeding / "stage")["fingerprint"] == "third"
        with Run(locked).lock():
            assert present(locked) == {LOCK, "stage"}, step
        verify(locked / "stage")
        for after in ("read", "failing", "succeeding", "locked"):
            shutil.rmtree(home.with_name(after))
        if done:
            break
    assert done
    assert step > 10
    assert seen == {"first", "second"}


def test_a_process_killed_at_any_step_of_a_first_folder_leaves_it_whole_or_not_there(tmp_path, way):
    for step in range(1, MOST_STEPS):
        stage = tmp_path / str(step) / "stage"
        stage.parent.mkdir()
        done = killed_at(step, lambda stage=stage: write(stage, "first", "a.txt"))
        assert not stage.exists() or is_current(stage, "first"), step
        with pytest.raises(RuntimeError, match="half way"):
            fail(stage)
        assert present(stage.parent) <= {"stage"}, step
        if done:
            break
    assert done
    assert is_current(stage, "first")


def test_a_process_killed_while_it_writes_json_leaves_the_earlier_file_or_the_new_one(tmp_path):
    for step in range(1, MOST_STEPS):
        file = tmp_path / str(step) / "x.json"
        file.parent.mkdir()
        write_json(file, "first")
        done = killed_at(step, lambda file=file: write_json(file, "second"))
        assert read_json(file) in ("first", "second")
        write_json(file, "third")
        assert present(file.parent) == {"x.json"}
        if done:
            break
    assert done


@pytest.mark.parametrize("stopped", range(2))
def test_an_interrupt_between_the_two_renames_and_a_failure_after_it_lose_nothing(tmp_path, monkeypatch, stopped):
    monkeypatch.setattr(partial, "LIBC", object())
    stage = tmp_path / "stage"
    write(stage, "first", "a.txt")
    really_rename, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        really_rename(source, target)
        if Path(source) == stage or Path(target) == stage:
            calls.append(source)
            if len(calls) == 1 + stopped:
                raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write(stage, "second", "a.txt")
    assert present(tmp_path) == {"stage"}
    assert verify(stage)["fingerprint"] == ("first", "second")[stopped]
    with pytest.raises(RuntimeError, match="half way"):
        fail(stage)
    assert present(tmp_path) == {"stage"}
    verify(stage)


HOLD = """
import sys
from pathlib import Path
from core.artifacts import new_folder
with new_folder(Path(sys.argv[1]), "first") as out:
    (out / "a.txt").write_text("first")
    print(out, flush=True)
    sys.stdin.readline()
"""


def test_two_processes_at_once_leave_each_other_alone(tmp_path, way):
    """The later one replaces the earlier one's folder."""
    stage = tmp_path / "stage"
    command = [sys.executable, "-c", HOLD, str(stage)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        theirs = Path(other.stdout.readline().strip())
        write(stage, "second", "b.txt")
        assert verify(stage)["fingerprint"] == "second"
        assert present(theirs) == {"a.txt"}
        other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert verify(stage)["fingerprint"] == "first"
    assert present(tmp_path) == {"stage"}


def test_what_a_live_process_moved_aside_is_not_moved_back(tmp_path):
    aside = tmp_path / f".stage.partial-old-{os.getpid()}-0123abcd"
    aside.mkdir()
    handle = os.open(aside, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    recover(tmp_path / "stage")
    assert present(tmp_path) == {aside.name}
    os.close(handle)
    recover(tmp_path / "stage")
    assert present(tmp_path) == {"stage"}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_without_locks_in_the_file_system_the_process_decides(tmp_path, monkeypatch, number):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    for pid in (ended, os.getppid()):
        (tmp_path / f".stage.partial-{pid}-0123abcd").mkdir()
    write(tmp_path / "stage", "first", "a.txt")
    write(tmp_path / "stage", "second", "a.txt")
    assert present(tmp_path) == {"stage", f".stage.partial-{os.getppid()}-0123abcd"}
    assert verify(tmp_path / "stage")["fingerprint"] == "second"


def test_a_linked_folder_is_replaced_where_it_lies(tmp_path, way):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    stage = tmp_path / "run" / "stage"
    stage.symlink_to(tmp_path / "disk" / "big")
    write(stage, "first", "a.txt")
    with pytest.raises(RuntimeError, match="half way"):
        fail(stage)
    write(stage, "second", "a.txt")
    assert verify(stage)["fingerprint"] == "second"
    assert stage.is_symlink()
    assert present(tmp_path / "run") == {"stage"}
    assert present(tmp_path / "disk") == {"big"}


def test_what_an_earlier_version_left_of_a_linked_folder_is_removed(tmp_path):
    (tmp_path / "disk" / "big").mkdir(parents=True)
    (tmp_path / "disk" / "big" / "a.txt").write_text("kept")
    (tmp_path / ".stage.partial-old-123").symlink_to(tmp_path / "disk" / "big")
    write(tmp_path / "stage", "first", "a.txt")
    write(tmp_path / "stage", "second", "a.txt")
    assert present(tmp_path) == {"disk", "stage"}
    assert present(tmp_path / "disk" / "big") == {"a.txt"}


def test_a_linked_run_folder(tmp_path, way):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    write(tmp_path / "run" / "stage", "first", "a.txt")
    write(tmp_path / "run" / "stage", "second", "a.txt")
    assert present(tmp_path / "disk") == {"stage"}
    assert read_manifest(tmp_path / "run" / "stage")["fingerprint"] == "second"


def test_a_file_in_the_place_of_a_folder_is_replaced(tmp_path, way):
    (tmp_path / "stage").write_text("a file")
    write(tmp_path / "stage", "first", "a.txt")
    assert is_current(tmp_path / "stage", "first")
    assert present(tmp_path) == {"stage"}


def test_a_name_is_no_pattern(tmp_path, way):
    """`[a]` is not taken for `a`, nor `*` for anything."""
    for name in ("run[a]", "*", "a.partial-1"):
        write(tmp_path / name, "first", "a.txt")
        (tmp_path / f".{name}.partial-123").mkdir()
    (tmp_path / ".runa.partial-123").mkdir()
    write(tmp_path / "*", "second", "a.txt")
    assert present(tmp_path) == {
        *("run[a]", "*", "a.partial-1", ".run[a].partial-123", ".a.partial-1.partial-123", ".runa.partial-123")
    }
    write(tmp_path / "run[a]", "second", "a.txt")
    assert present(tmp_path) == {*("run[a]", "*", "a.partial-1", ".a.partial-1.partial-123", ".runa.partial-123")}


def test_names_that_cannot_be_exchanged(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "other")
    assert present(tmp_path) == {"one"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_mounted_folder_is_refused_in_one_line(tmp_path):
    stage = tmp_path / "stage"
    write(stage, "first", "a.txt")
    if subprocess.run(["mount", "--bind", str(stage), str(stage)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(UserError, match=f"{stage} cannot be replaced") as caught:
            write(stage, "second", "a.txt")
        assert "\n" not in str(caught.value)
        assert verify(stage)["fingerprint"] == "first"
        assert present(tmp_path) == {"stage"}
    finally:
        subprocess.run(["umount", str(stage)], check=True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_still_read(tmp_path):
    write(tmp_path / "stage", "first", "a.txt")
    (tmp_path / ".stage.partial-123").mkdir()
    tmp_path.chmod(0o555)
    try:
        assert is_current(tmp_path / "stage", "first")
    finally:
        tmp_path.chmod(0o755)


def test_a_lock_whose_file_its_holder_has_just_removed_is_not_taken(tmp_path, monkeypatch):
    """As a third process may have made the file again, and hold it."""
    really_lock = fcntl.flock

    def lock(handle: int, how: int) -> None:
        (tmp_path / LOCK).unlink()
        really_lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(UserError, match="another marquee process"), Run(tmp_path).lock():
        pass
