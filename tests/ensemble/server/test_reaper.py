"""What a server has started ends with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from core.temporary import temporary_folder
from ensemble.server import reaper
from ensemble.server.launch import launch
from tests.names import HANG_SECONDS

# A server that starts a process which does not notice its end, as one of Triton's that is still loading its model.
SERVER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10000)"])
print(child.pid, flush=True)
time.sleep({seconds})
"""
STARTS = """
import os, sys, time
from pathlib import Path
from ensemble.server.launch import launch
from core.temporary import temporary_folder
with temporary_folder("marquee-triton-", Path(sys.argv[3])) as folder:
    server = launch([sys.executable, "-c", sys.argv[1]], dict(os.environ), Path(sys.argv[2]), folder)
    print(server.pid, flush=True)
    time.sleep(10000)
"""


@pytest.fixture
def log(tmp_path, monkeypatch) -> Iterator:
    """The server's log, where the process that it starts puts its id; that process is killed at the end."""
    monkeypatch.setattr("ensemble.server.launch.fitting", lambda arguments, _: list(arguments))
    path = tmp_path / "triton.log"
    yield path
    with suppress(ValueError, ProcessLookupError, FileNotFoundError):
        os.kill(int(path.read_text().split()[0]), signal.SIGKILL)


def child_of(log) -> psutil.Process:
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if log.is_file() and log.read_text().endswith("\n"):
            return psutil.Process(int(log.read_text().split()[0]))
        time.sleep(0.05)
    raise AssertionError("the server has not started its process")


def ended(process: psutil.Process) -> bool:
    psutil.wait_procs([process], timeout=HANG_SECONDS)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_server_has_started_ends_with_it(log, number):
    server = launch([sys.executable, "-c", SERVER.format(seconds=10000)], dict(os.environ), log, log.parent)
    child = child_of(log)
    server.send_signal(number)
    server.wait(HANG_SECONDS)
    assert ended(child)


@pytest.mark.slow
def test_it_ends_when_the_process_that_started_the_server_is_killed(log, tmp_path):
    """And the temporary folder of that process is removed."""
    place = tmp_path / "temporary"
    place.mkdir()
    program = STARTS.replace(
        "from ensemble.server.launch import launch",
        "\n".join(
            (
                "from ensemble.server import launch as module",
                "module.fitting = lambda arguments, _: list(arguments)",
                "launch = module.launch",
            )
        ),
    )
    command = [sys.executable, "-c", program, SERVER.format(seconds=10000), str(log), str(place)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server = psutil.Process(int(started.stdout.readline()))
    child = child_of(log)
    (folder,) = place.iterdir()
    (folder / "copy").touch()
    started.kill()
    started.wait(HANG_SECONDS)
    assert ended(server)
    assert ended(child)
    deadline = time.monotonic() + HANG_SECONDS
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_only_folders_that_no_process_holds_are_removed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    reaper.clear(str(other))
    assert other.is_dir()
    with temporary_folder("marquee-triton-", tmp_path) as folder:
        with pytest.raises(BlockingIOError):
            reaper.clear(str(folder))
        assert folder.is_dir()


def test_a_group_that_is_gone_is_left_alone():
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait(HANG_SECONDS)
    reaper.reap(process.pid)
