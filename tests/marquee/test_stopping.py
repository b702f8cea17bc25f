"""Commands that are stopped by a signal or by the end of their terminal: in order, with the usual exit code."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from core.run_folder import Run
from ensemble.server.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--dataset", "ml-latest-small")
HANG = 300.0  # seconds


class Command:
    """`python -m marquee` in a session of its own, with a temporary folder of its own.

    Attributes:
        family: what it has started, as far as it was looked for.
    """

    def __init__(self, tmp_path: Path, *arguments: object, ignored: int | None = None, terminal: bool = False):
        self.temporary, self.log = tmp_path / "temporary", tmp_path / "log"
        self.temporary.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        environment = {**kept, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

        def prepare() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):  # which a shell's background and `nohup` have ignored
                signal.signal(number, signal.SIG_DFL)
            if ignored is not None:
                signal.signal(ignored, signal.SIG_IGN)
            if terminal:
                os.setsid()
                os.close(os.open(os.ttyname(0), os.O_RDWR))  # so that it is the session's terminal

        self.terminal, inner = pty.openpty() if terminal else (None, None)
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marquee", *map(str, arguments)],
                cwd=ROOT,
                env=environment,
                stdin=inner,
                stdout=inner if terminal else output,
                stderr=inner if terminal else subprocess.STDOUT,
                start_new_session=not terminal,
                preexec_fn=prepare,
            )
        self.family: list[psutil.Process] = []
        if inner is not None:
            os.close(inner)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def ends(self) -> int:
        """Waits for it and all that it started. Returns its exit code."""
        code = self.process.wait(HANG)
        _, alive = psutil.wait_procs(self.family, timeout=60)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        return code

    def left_over(self) -> list[str]:
        return [path.name for path in self.temporary.glob("marquee-*")]


@contextmanager
def started(tmp_path: Path, *arguments: object, **how: object) -> Iterator[Command]:
    command = Command(tmp_path, *arguments, **how)
    try:
        yield command
    finally:
        with suppress(psutil.NoSuchProcess):
            for one in [*psutil.Process(command.process.pid).children(recursive=True), *command.family]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        command.process.kill()
        command.process.wait(30)
        if command.terminal is not None:
            with suppress(OSError):
                os.close(command.terminal)


def answering(port: int) -> bool:
    import tritonclient.grpc as triton

    with suppress(triton.InferenceServerException):
        return triton.InferenceServerClient(f"127.0.0.1:{port}").is_model_ready("recommend")
    return False


@pytest.mark.slow
def test_serving_ends_with_its_terminal(exported, tmp_path):
    port = free_port()
    where = (*SMALL, "--runs", exported.root.parent)
    with started(tmp_path, "serve", *where, "--port", port, terminal=True) as command:
        command.wait_for(lambda: answering(port))
        assert command.left_over()
        os.close(command.terminal)
        command.terminal = None
        assert command.ends() == 128 + signal.SIGHUP
        assert command.left_over() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_run_ends_in_order(movielens, tmp_path, number):
    arguments = (*SMALL, "--data", movielens, "--runs", tmp_path / "runs", "--epochs", 1_000_000)
    run = Run(tmp_path / "runs" / "ml-latest-small")
    with started(tmp_path, "run", *arguments, "--device", "cpu") as command:
        command.wait_for(lambda: run.features_of("leave-one-out").is_dir())
        command.process.send_signal(number)
        assert command.ends() == 128 + number
        assert command.left_over() == []
        assert not list(run.root.rglob(".*.partial-*"))
        assert "Traceback" not in command.log.read_text()
        assert command.log.read_text().splitlines()[-1] == "stopped"


@pytest.mark.slow
def test_a_command_that_shall_survive_its_terminal_does(movielens, tmp_path):
    """`nohup`, and SIGPIPE, which Python ignores."""
    where = (*SMALL, "--data", movielens, "--runs", tmp_path / "runs")
    run = Run(tmp_path / "runs" / "ml-latest-small")
    with started(tmp_path, "fetch", *where, ignored=signal.SIGHUP) as command:
        command.wait_for(lambda: bool(list(command.temporary.glob("*"))) or run.root.is_dir())
        with suppress(ProcessLookupError):
            command.process.send_signal(signal.SIGHUP)
            command.process.send_signal(signal.SIGPIPE)
        assert command.ends() == 0
        assert run.tables.is_dir()
