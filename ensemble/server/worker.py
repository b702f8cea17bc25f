"""One process of the front door, as its supervisor sees it."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from pydantic import TypeAdapter

import ensemble
from core.descent import ending_with_parent
from core.errors import UserError
from ensemble.front_door.settings import FrontDoorSettings
from ensemble.server.growth import Growth
from ensemble.server.logs import last_error
from ensemble.server.process import exit_code

ROOT = Path(ensemble.__file__).resolve().parents[1]
READY, HOLDS = "ready ", "holds "  # what it says
START_SECONDS = 60.0

# For glibc's allocator: messages of megabytes come and go, and what is freed in pieces would stay with the process.
GIVES_MEMORY_BACK = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 17),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 17),
}


class Worker:
    """Starts the process. It ends with the thread that made this, however that ends.

    Args:
        command: of the process, such as `python -m ensemble.front_door`.
        settings: its first line of input.
        log: where its errors go.

    Attributes:
        ports: where it listens, by protocol; empty until it does.
        misses: questions in a row that it did not answer.
        growth: of the memory that it holds.

    Raises:
        OSError: the process or its log cannot be made.
    """

    def __init__(self, command: Sequence[str], settings: FrontDoorSettings, log: Path):
        self.settings, self.log = settings, log
        self.ports: dict[str, int] = {}
        self.misses, self.growth = 0, Growth()
        self.said = b""
        self.deadline = time.monotonic() + START_SECONDS
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(log, "ab") as errors:
            self.log_start = errors.tell()
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **GIVES_MEMORY_BACK, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                preexec_fn=ending_with_parent(signal.SIGKILL),  # also one that hangs
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.to, False)  # a process that hangs must not hang its supervisor
        os.set_blocking(self.out, False)
        self._send(TypeAdapter(FrontDoorSettings).dump_json(settings))

    def note(self, message: dict[str, Any]) -> None:
        """Passes a note, if the process takes it."""
        self._send(json.dumps(message).encode())

    def is_ready(self) -> bool:
        """Whether it listens.

        Raises:
            UserError: it has ended, or has not said so in `START_SECONDS`; the message carries its last error.
        """
        self._listen()
        code = exit_code(self.process)
        if code is not None:
            raise UserError(f"the front door ended (exit code {code}): {self.error()}; its log is {self.log}")
        if not self.ports and time.monotonic() > self.deadline:
            raise UserError(
                f"the front door did not listen after {START_SECONDS:g} s: {self.error()}; its log is {self.log}"
            )
        return bool(self.ports)

    def _listen(self) -> None:
        """Takes in what it has said."""
        with suppress(BlockingIOError):
            while part := os.read(self.out, 1 << 16):
                self.said += part
        *lines, self.said = self.said.split(b"\n")
        for line in (one.decode(errors="replace") for one in lines):
            if line.startswith(READY):
                self.ports = {name: int(port) for name, port in json.loads(line.removeprefix(READY)).items() if port}
            elif line.startswith(HOLDS):
                self.growth.add(float(line.removeprefix(HOLDS)))

    def error(self) -> str:
        """The last error in its log."""
        return last_error(self.log, self.log_start)

    def wait(self, seconds: float) -> None:
        """Waits until it says something or has ended."""
        said = select.poll()
        said.register(self.out, select.POLLIN)
        said.poll(seconds * 1000)

    def end(self, seconds: float | None = None) -> None:
        """Has it accept nothing more, answer what is under way, and end.

        Args:
            seconds: that it may take; None for a few.
        """
        assert self.process.stdin is not None
        if seconds is not None:
            self.note({"grace": seconds})
        with suppress(OSError):
            self.process.stdin.close()

    def kill(self) -> None:
        """Ends it at once, and what it has started."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()
        Path(self.settings.private).unlink(missing_ok=True)
        if self.settings.metrics_folder:
            mark_process_dead(self.process.pid, self.settings.metrics_folder)  # what waited there waits no more

    def _send(self, line: bytes) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ValueError):
            os.write(self.to, line + b"\n")
