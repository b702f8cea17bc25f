"""Finds `tritonserver`, starts it on a private copy of a repository, waits for real answers, and stops it cleanly."""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil

from core.errors import UserError
from ensemble.client import Access
from ensemble.repository import releases
from ensemble.server.access import ServerAccess, hide
from ensemble.server.canary import Canary

LOOPBACK = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 10
CANARY_SECONDS = 10.0
OPEN = ServerAccess()
SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # loaded here, as a child of a process with threads may take no locks


@dataclass(frozen=True)
class Ports:
    """Where a server listens; HTTP and metrics are off where their port is 0."""

    grpc: int = 8001
    http: int = 0
    metrics: int = 0
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """Where this machine asks its gRPC."""
        return f"{LOOPBACK if self.host == '0.0.0.0' else self.host}:{self.grpc}"

    def check(self) -> None:
        """
        Raises:
            UserError: a port is taken, or is no port.
        """
        asked = [port for port in (self.grpc, self.http, self.metrics) if port]
        if len(set(asked)) < len(asked):
            raise UserError("the gRPC, HTTP and metrics ports must differ")
        for port in asked:
            if not 0 < port < 65536:
                raise UserError(f"{port} is no port; choose one from 1 to 65535")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    reason = str(error.strerror).lower()
                    raise UserError(
                        f"port {port} of {self.host} cannot be used ({reason}); stop what uses it, or choose another"
                    ) from None


def free_port() -> int:
    """A loopback port that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A Triton that was started: where and how to ask it, its process, and what it says."""

    url: str
    process: subprocess.Popen
    log: Path
    access: Access = field(default_factory=Access)
    hidden: bool = True  # whether its secrets are gone from its command line
    shared: str = ""  # how the names of its shared memory begin

    def check(self) -> None:
        """
        Raises:
            UserError: the server has ended; the message carries its last words.
        """
        code = exit_code(self.process)
        if code is not None:
            raise UserError(f"Triton ended by itself (exit code {code}): {last_words(self.log)}; its log is {self.log}")

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """As `stop`; and what it shared with its stubs, which a server that is killed leaves behind, is removed."""
        stop(self.process, patience)
        for left in SHARED_MEMORY.glob(f"{self.shared}*") if self.shared else ():
            left.unlink(missing_ok=True)

    def stubs(self, model: str) -> list[psutil.Process]:
        """The Python processes of a model that live, hung ones too."""
        found: list[psutil.Process] = []
        if exit_code(self.process) is not None:
            return found
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # dead, or it dies while it is looked at
                if any(Path(argument).parts[-3:-2] == (model,) for argument in child.cmdline()[1:2]):
                    found.append(child)
        return found

    def wait_until_it_answers(self, canary: Canary, closing: threading.Event | None = None) -> None:
        """Readiness is no proof: a model whose Python died stays ready. A real answer from each model is.

        Args:
            closing: set where the answer does not matter any more.

        Raises:
            UserError: the server ended, or gave no answer of this release in `START_SECONDS`.
        """
        closing = closing or threading.Event()
        deadline = time.monotonic() + START_SECONDS
        while not closing.is_set():
            self.check()
            try:
                for model in canary.release.models:
                    canary.ask(self.url, self.access, model, CANARY_SECONDS)
                return
            except UserError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"Triton gave no answer in {START_SECONDS} s ({error}): {last_words(self.log)}; "
                        f"its log is {self.log}"
                    ) from None
            closing.wait(0.2)
        raise UserError("stopped")


def start(served: Path, backends: Path, log: Path, ports: Ports, access: ServerAccess) -> Server:
    """Starts a server, which lives no longer than the thread that calls this.

    Args:
        served: the folder that is served; Triton follows what changes in it.
        backends: a folder that the wheel's backends are copied to, at the first start.
        log: where the server's own output goes; the log of the start before is kept beside it.

    Raises:
        UserError: there is no Triton, or certificates cannot be used, or HTTP was asked for together with TLS.
    """
    own = access.own()
    guard, hidden = access.flags(bool(ports.http))
    shared = f"marquee-{secrets.token_hex(8)}-"
    command, environment = _command(served, ports, backends, "poll")
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    # Strictly, it is not ready while it loads a version beside the one that answers; load balancers would go away.
    command += ["--repository-poll-secs=1", "--strict-readiness=false", *guard]
    command.append(f"--backend-config=python,shm-region-prefix-name={shared}")
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    deadline = time.monotonic() + STOP_SECONDS
    while exit_code(process) is None and not log.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.02)  # it has read its arguments once it says anything
    return Server(ports.url, process, log, own, hide(process.pid, hidden), shared)


def exit_code(process: subprocess.Popen) -> int | None:
    """How a process ended; None while it runs. It is left unreaped, so that its group can still be ended by its id."""
    if process.returncode is not None:
        return int(process.returncode)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def stop(process: subprocess.Popen, patience: float = STOP_SECONDS) -> None:
    """Asks the server to end, and ends it and its stubs where they have not within `patience` seconds."""
    if process.returncode is not None:
        return
    deadline = time.monotonic() + patience
    os.kill(process.pid, signal.SIGTERM)
    while exit_code(process) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # its own session: the server and its stubs, nothing else
    process.wait()


@contextmanager
def running(repository: Path, log: Path, ports: Ports, access: ServerAccess = OPEN) -> Iterator[Server]:
    """A server that has answered a question to each model, stopped when the block ends.

    Args:
        repository: an exported repository; its manifest is verified before anything starts.
        log: where the server's own output goes.
        access: what it asks of its clients.

    Raises:
        UserError: the repository was changed, a port is taken, there is no Triton, or it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-triton-") as temporary:
        # Served is a copy: what was verified can then not be changed under a running server.
        release = releases.take(repository, Path(temporary) / "release")
        ports.check()
        server = start(release.folder, Path(temporary) / "backends", log, ports, access)
        try:
            server.wait_until_it_answers(Canary(release))
            yield server
        finally:
            server.stop()


def last_words(log: Path) -> str:
    """Why a model could not be loaded, or the last error in Triton's log, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    # Without a GPU, it reports as an error each time that it finds none.
    errors = [line for line in lines if line.startswith(("E", "error", "Error")) and "cuda" not in line.lower()]
    causes = [line for line in errors if "failed to load '" in line]
    return (causes or errors or lines or ["it said nothing"])[-1][:300]


def _end_with_parent() -> None:
    """Linux ends the server when the thread that started it ends, however it does, so that none is left behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _command(repository: Path, ports: Ports, backends: Path, control: str = "none") -> tuple[list[str], dict[str, str]]:
    """What to run, and in which environment.

    Args:
        control: `none`, or `poll` to follow what changes in the repository; explicit control would run any Python that
            a client uploads.
    """
    environment = dict(os.environ)
    environment["PYTHONNOUSERSITE"] = "1"
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # each model's process has one thread to count with
        environment.setdefault(pool, "1")
    binary = shutil.which("tritonserver")
    own_backends = binary is not None
    if binary is None:
        binary = str(_wheel_server(backends, environment))
    command = [
        binary,
        f"--model-repository={repository.resolve()}",
        f"--model-control-mode={control}",
        "--disable-auto-complete-config",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={STOP_SECONDS // 2}",
        f"--grpc-address={ports.host}",
        f"--grpc-port={ports.grpc}",
        f"--allow-http={str(bool(ports.http)).lower()}",
        f"--allow-metrics={str(bool(ports.metrics)).lower()}",
    ]
    if not own_backends:
        command.append(f"--backend-directory={backends}")
    if ports.http:
        command += [f"--http-address={ports.host}", f"--http-port={ports.http}"]
    if ports.metrics:
        command += [f"--metrics-address={ports.host}", f"--metrics-port={ports.metrics}"]
        command.append("--metrics-config=summary_latencies=true")  # percentiles; counters are there anyway
    return command, environment


def _wheel_server(backends: Path, environment: dict[str, str]) -> Path:
    """The server inside the nvidia-pytriton wheel, to be started directly; fills `backends` for this Python.

    Sets in `environment` what the Python stub needs: this interpreter first on PATH, and its libpython before the
    wheel's libraries, as the stub is linked against one and a different patch version does not load.
    """
    spec = find_spec("pytriton")  # found, not imported
    if spec is None or spec.origin is None:
        raise UserError(
            "no tritonserver on PATH and no nvidia-pytriton wheel; run make venv, or use the Triton container"
        )
    root = Path(spec.origin).parent / "tritonserver"
    stub = root / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        raise UserError(f"the Triton wheel has no stub for Python {sys.version.split()[0]}; use Python 3.10 or 3.11")
    backend = backends / "python"  # copied, as Triton refuses symbolic links
    if not backend.is_dir():
        shutil.copytree(root / "backends" / "python", backend)
        shutil.copy(stub / "triton_python_backend_stub", backend)
    libraries = [sysconfig.get_config_var("LIBDIR"), str(root.parent.parent / "nvidia_pytriton.libs")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [environment.get("LD_LIBRARY_PATH")])])
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return root / "bin" / "tritonserver"
