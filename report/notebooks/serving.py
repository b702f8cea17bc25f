"""A run exported and served beside itself, so that a notebook changes no run folder, and `serve` in its own process."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from shutil import copyfile

from core.artifacts import CHECKOUT
from core.descent import ending_with_parent
from core.errors import UserError
from core.run_folder import Run
from core.temporary import temporary_folder

TEMPORARY = "marquee-served-"
LINKED = ("tables", "features", "models")
COPIED = ("evaluation.json", ".evaluation-stamp.json")  # `export` adds what it took to the first
ANSWERS = re.compile(r"Triton answers at (\S+)")
INTRODUCED = "Ctrl-C stops it."  # the last line before `serve` says what happens
COLORS = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
START_SECONDS, STOP_SECONDS, EXPORT_SECONDS = 900, 60, 1200  # after which a process is taken for hung


@contextmanager
def beside(run: Run) -> Iterator[Run]:
    """A run with the same tables, features and models, and with a repository of its own, removed at the end."""
    with temporary_folder(TEMPORARY) as folder:
        copy = Run(folder / run.root.name)
        copy.root.mkdir()
        for name in LINKED:
            (copy.root / name).symlink_to((run.root / name).absolute())
        for name in COPIED:
            with suppress(FileNotFoundError):
                copyfile(run.root / name, copy.root / name)
        yield copy


@dataclass
class Serving:
    """A running `python -m marquee serve`.

    Attributes:
        url: `host:port` of its gRPC.
        lines: what it has printed.
    """

    process: subprocess.Popen
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def said(self) -> list[str]:
        """What it has said since it answers, a line each."""
        return self.lines[self.lines.index(INTRODUCED) + 1 :] if INTRODUCED in self.lines else []


@contextmanager
def serving(run: Run) -> Iterator[Serving]:
    """`serve` of a run's repository on a free port of this machine alone, ended with the block or with this process.

    It uses the `tritonserver` on PATH, as in Merlin's container, or else the one in the nvidia-pytriton wheel.

    Raises:
        UserError: it ends before it answers, or does not answer; the message has what it said.
    """
    command = [sys.executable, "-m", "marquee", "serve", "--repository", str(run.repository)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--log", str(run.root / "triton.log")],
        cwd=CHECKOUT,
        env=_plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # an interrupt of the notebook is not for it
        preexec_fn=ending_with_parent(signal.SIGTERM),
    )
    server = Serving(process)
    introduced = threading.Event()
    reader = threading.Thread(target=_read, args=(server, introduced), daemon=True)
    reader.start()
    try:
        introduced.wait(START_SECONDS)
        if not server.url or INTRODUCED not in server.lines:
            raise UserError(f"serve does not answer: {' '.join(server.lines[-5:]) or 'it says nothing'}")
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()
        reader.join(STOP_SECONDS)


def _plain_environment() -> dict[str, str]:
    """This process's, for lines without colours, which a notebook's kernel asks for, and at once."""
    kept = {name: value for name, value in os.environ.items() if name not in COLORS}
    return {**kept, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def _read(server: Serving, introduced: threading.Event) -> None:
    """Collects what `serve` prints, and notes where it answers."""
    for line in server.process.stdout or ():
        server.lines.append(line.rstrip())
        found = ANSWERS.search(line)
        if found:
            server.url = found[1]
        if server.lines[-1] == INTRODUCED:
            introduced.set()
    introduced.set()  # it has ended


def export_command(run: Run, protocol: str, default_model: str) -> None:
    """Adds a version to a run's repository by the command `export`, in a process of its own.

    Args:
        default_model: which network answers where a request names none.

    Raises:
        UserError: it failed; the message has what it said.
    """
    command = [sys.executable, "-m", "marquee", "export", "--dataset", run.root.name, "--runs", str(run.root.parent)]
    done = subprocess.run(
        [*command, "--protocol", protocol, "--default-model", default_model],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_plain_environment(),
        timeout=EXPORT_SECONDS,
        preexec_fn=ending_with_parent(signal.SIGTERM),
    )
    if done.returncode:
        raise UserError(f"export failed: {' '.join(done.stdout.split())[-500:]}")
