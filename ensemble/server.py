"""Finds `tritonserver`, starts it on a verified repository, waits for a real answer, and stops it cleanly."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

from ensemble import client
from marquee.errors import UserError
from marquee.manifest import verify

LOOPBACK = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 10
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ports:
    """Where a server listens; HTTP and metrics are off where their port is 0."""

    grpc: int = 8001
    http: int = 0
    metrics: int = 0
    host: str = LOOPBACK

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
    """A running Triton: where to ask it, and its process."""

    url: str
    process: subprocess.Popen
    log: Path

    def check(self) -> None:
        """
        Raises:
            UserError: the server has ended; the message carries its last words.
        """
        code = self.process.poll()
        if code is not None:
            raise UserError(f"Triton ended by itself (exit code {code}): {last_words(self.log)}; its log is {self.log}")


@contextmanager
def running(repository: Path, log: Path, ports: Ports) -> Iterator[Server]:
    """A server that has answered a canary question, stopped when the block ends.

    Args:
        repository: an exported repository; its manifest is verified before anything starts.
        log: where the server's own output goes.

    Raises:
        UserError: the repository was changed, a port is taken, there is no Triton, or it does not come up.
    """
    verify(repository, "export")
    ports.check()
    with tempfile.TemporaryDirectory(prefix="marquee-triton-") as temporary:
        # Served is a copy: Python inside Triton writes its bytecode beside the models, and what was verified can then
        # not be changed under a running server.
        served = Path(shutil.copytree(repository, Path(temporary) / "repository"))
        verify(served, "export")
        backends = Path(temporary) / "backends"
        command, environment = _command(served, ports, backends)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_end_with_parent,
            )  # fmt: skip
        asked_at = LOOPBACK if ports.host == "0.0.0.0" else ports.host
        server = Server(f"{asked_at}:{ports.grpc}", process, log)
        try:
            _wait_for_canary(server, repository)
            yield server
        finally:
            stop(process)


def stop(process: subprocess.Popen) -> None:
    """Asks the server to end, and ends it and its stubs where it does not within `STOP_SECONDS`."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the server and its stubs, nothing else
            process.wait()


def last_words(log: Path) -> str:
    """The last error in Triton's log, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E", "error", "Error"))]
    return (errors or lines or ["it said nothing"])[-1][:300]


def _end_with_parent() -> None:
    """Linux ends the server when this process dies, however it dies, so that none is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _command(repository: Path, ports: Ports, backends: Path) -> tuple[list[str], dict[str, str]]:
    environment = dict(os.environ)
    environment["PYTHONNOUSERSITE"] = "1"
    binary = shutil.which("tritonserver")
    own_backends = binary is not None
    if binary is None:
        binary = str(_wheel_server(backends, environment))
    command = [
        binary,
        f"--model-repository={repository.resolve()}",
        "--model-control-mode=none",  # explicit control would let any client upload and run Python
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
    shutil.copytree(root / "backends" / "python", backend)
    shutil.copy(stub / "triton_python_backend_stub", backend)
    libraries = [sysconfig.get_config_var("LIBDIR"), str(root.parent.parent / "nvidia_pytriton.libs")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [environment.get("LD_LIBRARY_PATH")])])
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return root / "bin" / "tritonserver"


def _wait_for_canary(server: Server, repository: Path) -> None:
    """Readiness is no proof: a model whose Python died stays ready. A real answer from each model is."""
    user, movie = (_first_id(repository / "score" / "1", name) for name in ("user_id", "movie_id"))
    deadline = time.monotonic() + START_SECONDS
    while True:
        server.check()
        try:
            client.score(server.url, [user], [movie])
            client.recommend(server.url, user, 1)
            return
        except UserError as error:
            if time.monotonic() > deadline:
                words = last_words(server.log)
                raise UserError(
                    f"Triton gave no answer in {START_SECONDS} s ({error}): {words}; its log is {server.log}"
                ) from None
        time.sleep(0.2)


def _first_id(folder: Path, name: str) -> int:
    return int(pq.read_table(folder / f"{name}.parquet", columns=[name])[name][0].as_py())
