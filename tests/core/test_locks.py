"""Locks on names: one process at a time, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.locks import Held, held

CHECKOUT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from core.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
COUNT = """
import sys
from pathlib import Path
from core.locks import held
for _ in range(100):
    with held(Path(sys.argv[1]), lambda: None):
        counter = Path(sys.argv[2])
        counter.write_text(str(int(counter.read_text()) + 1))
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds `lock` until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("\n", timeout=60)


def test_the_file_is_removed_at_the_end(tmp_path):
    with held(tmp_path / "lock"):
        assert (tmp_path / "lock").is_file()
    assert not list(tmp_path.iterdir())


def test_a_held_lock_is_refused(tmp_path, other):
    with pytest.raises(Held), held(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").is_file()  # it is the other's


def test_a_held_lock_is_waited_for(tmp_path, other):
    said = []

    def waits() -> None:
        said.append("waiting")
        other.stdin.write("\n")
        other.stdin.flush()

    with held(tmp_path / "lock", waits):
        assert other.wait(timeout=60) == 0
        assert (tmp_path / "lock").is_file()
    assert said == ["waiting"]
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_free(tmp_path, other):
    other.kill()
    other.wait(timeout=60)
    assert (tmp_path / "lock").is_file()
    with held(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_one_process_at_a_time(tmp_path):
    """Although each of them removes the file that the others wait for."""
    (tmp_path / "counter").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "lock"), str(tmp_path / "counter")]
    processes = [subprocess.Popen(command, cwd=CHECKOUT) for _ in range(3)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "300"
