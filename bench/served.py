"""`serve` as an operator starts it, in a process of its own; and its processes, found by what they run."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from attacks import Target
from inputs import ROOT

from core.errors import UserError
from core.progress import PIPED_WIDTH
from ensemble import client
from ensemble.client import Access
from ensemble.server.ports import LOOPBACK, free_port

START_SECONDS = 120
STOP_SECONDS = 40
FRONT_DOOR = "ensemble.front_door"


@dataclass
class Served:
    """A running `serve`.

    Attributes:
        target: its ports and its secret.
        temporary: the folder in which it makes its temporary ones.
        lines: what it printed.
    """

    process: subprocess.Popen
    target: Target
    temporary: Path
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """`host:port` of its gRPC."""
        return self.target.grpc

    def triton(self) -> psutil.Process:
        """The server, once there is one. A rehearsal's, which started later, is not meant."""

        def look() -> psutil.Process | None:
            found = [one for one in self._processes() if Path(_command(one)[0]).name == "tritonserver"]
            return min(found, key=lambda one: one.create_time(), default=None)

        return _awaited(look, "there is no Triton")

    def front_doors(self) -> list[psutil.Process]:
        """The front door's workers."""
        return [one for one in self._processes() if FRONT_DOOR in _command(one)]

    def stub(self, model: str) -> psutil.Process:
        """The Python process of a model, once it is loaded."""

        def look() -> psutil.Process | None:
            for one in self.triton().children():
                command = _command(one)
                if len(command) > 1 and Path(command[1]).parts[-3:-2] == (model,):  # .../<model>/<version>/model.py
                    return one
            return None

        return _awaited(look, f"{model} has no Python process")

    def memory(self) -> float:
        """MB that Triton, its Python processes and the front door hold: shared pages count once (PSS)."""
        triton = self.triton()
        measured = [triton, *triton.children(recursive=True), *self.front_doors()]
        return sum(one.memory_full_info().pss for one in measured) / 1e6

    def pids(self) -> list[int]:
        """Triton's process id and those of the front door."""
        return [self.triton().pid, *sorted(one.pid for one in self.front_doors())]

    def told(self) -> list[str]:
        """What it printed, without the wrapping of the lines and without the folders of this machine."""
        said: list[str] = []
        last = ""
        for line in list(self.lines):
            # A line was wrapped where the first word of the next did not fit.
            if said and line and len(last) + 1 + len(line.split()[0]) > PIPED_WIDTH:
                said[-1] += f" {line.strip()}"
            elif line:
                said.append(line)
            last = line
        return [line.replace(f"{self.temporary.parent}/", "") for line in said]

    def answers(self) -> bool:
        """Whether a question to `score` is answered now."""
        try:
            client.score(self.target.grpc, [1], [1], access=Access(self.target.secret))
        except UserError:
            return False
        return True

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Waits until it answers; ends with what it printed where it does not."""
        until = time.monotonic() + seconds
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("serve does not answer:\n" + "\n".join(self.lines[-20:]))
            time.sleep(0.2)

    def _processes(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in children if _command(one)]


def _awaited(look: Callable[[], psutil.Process | None], without: str) -> psutil.Process:
    """What is found, after a repair if one is under way.

    Raises:
        UserError: nothing is found for a minute.
    """
    until = time.monotonic() + START_SECONDS / 2
    while time.monotonic() < until:
        with contextlib.suppress(psutil.Error):
            if found := look():
                return found
        time.sleep(0.2)
    raise UserError(f"{without} for {START_SECONDS / 2:g} s")


def _command(process: psutil.Process) -> list[str]:
    """Empty for one that has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@contextmanager
def served(repository: Path, folder: Path, secret: str = "") -> Iterator[Served]:
    """Starts `serve` for a repository, over gRPC and HTTP, and waits for an answer.

    Args:
        folder: for its temporary folders and the file of its secret. Its log is beside the repository.
        secret: that it asks of its clients; empty for none.
    """
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    ports = free_port(), free_port()
    target = Target(*(f"{LOOPBACK}:{port}" for port in ports), secret)
    command = [sys.executable, "-m", "marquee", "serve", "--repository", str(repository)]
    command += ["--log", str(repository.with_name("triton.log")), "--port", str(ports[0]), "--http-port", str(ports[1])]
    if secret:
        (folder / "secret").write_text(secret)
        (folder / "secret").chmod(0o600)
        command += ["--secret-file", str(folder / "secret")]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = Served(process, target, temporary)
    reader = threading.Thread(target=_read, args=(running,), daemon=True)
    reader.start()
    try:
        running.wait()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()


def _read(running: Served) -> None:
    for line in running.process.stdout or ():
        running.lines.append(line.rstrip())
