"""Starts a Triton on a private copy of a repository, waits for real answers, and stops it cleanly."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from core.artifacts import ANY_COMMAND
from core.errors import UserError
from core.temporary import temporary_folder
from ensemble.client import Access
from ensemble.repository import releases
from ensemble.server.access import Inside, hide, restrictions
from ensemble.server.canary import Canary
from ensemble.server.launch import STOP_SECONDS, launch, triton_command
from ensemble.server.logs import claimed, last_error, rotate
from ensemble.server.ports import LOOPBACK, Ports, address
from ensemble.server.shared_memory import release, reserved

START_SECONDS = 60
ASK_AGAIN_SECONDS = 0.05
TEMPORARY = "marquee-triton-"  # what the folders that servers serve are named


@dataclass
class Server:
    """A Triton that was started.

    Attributes:
        url: `host:port` of its gRPC.
        http: `host:port` of its HTTP; empty where it has none.
        process: the server.
        log: where its output goes.
        access: how this process asks it: as one that only looks.
        hidden: whether its secrets are gone from its command line.
        shared: the prefix of the names of its shared memory; empty where it is not known.
    """

    url: str
    process: subprocess.Popen
    log: Path
    http: str = field(default="", kw_only=True)
    access: Access = field(default_factory=Access, kw_only=True)
    hidden: bool = field(default=True, kw_only=True)
    shared: str = field(default="", kw_only=True)

    def check(self) -> None:
        """
        Raises:
            UserError: the server has ended; the message carries the end of its log.
        """
        code = exit_code(self.process)
        if code is not None:
            raise UserError(f"Triton ended by itself (exit code {code}): {last_error(self.log)}; its log is {self.log}")

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """Stops the server as `stop` does, and removes the shared memory that a killed one leaves behind."""
        stop(self.process, patience)
        if self.shared:
            release(self.shared)

    def stubs(self, model: str) -> list[psutil.Process]:
        """The Python processes of a model that are alive, hung ones too."""
        found: list[psutil.Process] = []
        if exit_code(self.process) is not None:
            return found
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it is dead, or dies just now
                command = child.cmdline()
                # Its first argument is `.../<model>/<version>/model.py`.
                if len(command) > 1 and Path(command[1]).parts[-3:-2] == (model,):
                    found.append(child)
        return found

    def wait_until_it_answers(self, canary: Canary, closing: threading.Event | None = None) -> None:
        """Waits until every model answers: a model whose Python died stays ready, so readiness is not proof.

        Args:
            closing: set where the answer does not matter any more.

        Raises:
            UserError: the server ended, or did not answer as this release in `START_SECONDS`.
        """

        def ask_every_model() -> None:
            for model in canary.release.models:
                canary.ask(self.url, self.access, model, START_SECONDS)

        self.wait_for(ask_every_model, START_SECONDS, closing)

    def wait_for(self, ask: Callable[[], None], seconds: float, closing: threading.Event | None = None) -> None:
        """Calls `ask` again and again until it raises no error.

        Args:
            ask: raises a UserError while the server does not answer.
            closing: set where the answer does not matter any more.

        Raises:
            UserError: the server ended, or `ask` still failed after so many seconds.
        """
        closing = closing or threading.Event()
        deadline = time.monotonic() + seconds
        while not closing.is_set():
            self.check()
            try:
                return ask()
            except UserError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"Triton gave no answer in {seconds:g} s ({error}): {last_error(self.log)}; "
                        f"its log is {self.log}"
                    ) from None
            closing.wait(ASK_AGAIN_SECONDS)
        raise UserError("stopped")


def start(served: Path, backends: Path, log: Path, port: int, secret: str = "", *, http: int = 0) -> Server:
    """Starts a server on loopback, which lives no longer than the thread that calls this.

    Args:
        served: the folder that is served; Triton follows what changes in it.
        backends: a folder in the temporary folder that the wheel's backends are copied to, at the first start.
        log: where the server's own output goes; the logs of the starts before are kept beside it.
        port: for gRPC.
        secret: what every request must carry; empty for none.
        http: for HTTP, which `Server.http` is empty without; 0 for none.

    Raises:
        UserError: there is no Triton, or it cannot be protected.
        OSError: its files cannot be written.
    """
    arguments, environment = triton_command(served, port, backends, "poll", http=http)
    has_http = "--allow-http=true" in arguments
    flags, to_hide = restrictions(secret, has_http)
    rotate(log)
    # Strictly, a server is not ready while it loads a version beside the one that answers; load balancers would leave.
    arguments += ["--repository-poll-secs=1", "--strict-readiness=false", *flags]
    with reserved() as (shared, inherited):
        arguments.append(f"--backend-config=python,shm-region-prefix-name={shared}")
        process = launch(arguments, environment, log, backends.parent, inherited)
    deadline = time.monotonic() + STOP_SECONDS
    while exit_code(process) is None and not _has_read_arguments(process, log) and time.monotonic() < deadline:
        time.sleep(0.01)
    hidden = hide(process.pid, to_hide)
    url = address(LOOPBACK, port)
    http_url = address(LOOPBACK, http) if has_http else ""
    return Server(url, process, log, http=http_url, access=Inside(secret), hidden=hidden, shared=shared)


def _has_read_arguments(process: subprocess.Popen, log: Path) -> bool:
    """Whether a Triton is past its arguments: it logs, or, where the disk is full, has threads."""
    with suppress(OSError, psutil.Error):
        return bool(log.stat().st_size) or psutil.Process(process.pid).num_threads() > 1
    return False


def exit_code(process: subprocess.Popen) -> int | None:
    """How a process ended; None while it runs. It is left unreaped, so that its group can still be ended by its id."""
    if process.returncode is not None:
        return int(process.returncode)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def stop(process: subprocess.Popen, patience: float = STOP_SECONDS) -> None:
    """Asks a server to end, and after at most `patience` seconds kills it and what is left of its stubs."""
    if process.returncode is not None:
        return
    deadline = time.monotonic() + patience
    os.kill(process.pid, signal.SIGTERM)
    while exit_code(process) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # its own session: the server and its stubs, nothing else
    process.wait()


@contextmanager
def running(
    repository: Path, log: Path, ports: Ports, secret: str = "", *, command: str = ANY_COMMAND
) -> Iterator[Server]:
    """A Triton without a front door, on loopback: for one question of this process, not for clients.

    Args:
        repository: an exported repository; its manifest is verified before anything starts.
        log: where the server's own output goes, or beside it where another server writes there.
        ports: `ports.grpc` is where it listens.
        secret: what every request must carry; empty for none.
        command: the command line that writes the repository, for the message.

    Raises:
        UserError: the repository was changed, a port is taken, there is no Triton, or it does not come up.
    """
    with temporary_folder(TEMPORARY) as temporary:
        # A copy is served, so that what was verified cannot be changed under a running server.
        release = releases.take(repository, temporary / "release", command=command)
        ports.check()
        with claimed(log) as own_log:
            server = start(release.folder, temporary / "backends", own_log, ports.grpc, secret)
            try:
                server.wait_until_it_answers(Canary(release))
                yield server
            finally:
                server.stop()
