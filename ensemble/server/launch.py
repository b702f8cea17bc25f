"""Finds `tritonserver`, configures it, and starts its process."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

from core.descent import ending_with_parent
from core.errors import UserError
from ensemble.server.flags import fitting, listed_flags
from ensemble.server.ports import LOOPBACK

STOP_SECONDS = 10
TRITON_TEMPORARY = Path("/tmp")  # its Python backend makes a small folder there, whatever TMPDIR says
HTTP_PROTECTION = "--http-restricted-api"  # Triton 2.40 and newer
REAPER = Path(__file__).with_name("reaper.py")


def launch(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path, inherited: Sequence[int] = ()
) -> subprocess.Popen:
    """Starts a server in a session of its own. It ends with the thread that called this, however that ends.

    What it has started and leaves alive is killed soon after its end.

    Args:
        arguments, environment: of `triton_command`, with any additions.
        log: where the server's output goes, after what is there.
        folder: the temporary folder that it serves from, removed with it where this process is killed.
        inherited: handles of open files that the server gets too.

    Raises:
        UserError: the server cannot be run, or does not take a flag that matters.
    """
    with open(log, "ab") as output:
        process = subprocess.Popen(
            fitting(arguments, environment),
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
            preexec_fn=ending_with_parent(signal.SIGTERM),
        )
    # In a session of its own: it outlives this process, and ends soon after the server.
    subprocess.run(
        [sys.executable, "-I", "-S", REAPER, str(process.pid), folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return process


def triton_command(
    repository: Path, port: int, backends: Path, control: str = "none", *, http: int = 0
) -> tuple[list[str], dict[str, str]]:
    """The arguments of the `tritonserver` on PATH, else of the one in the nvidia-pytriton wheel, and its environment.

    It listens on loopback.

    Args:
        port: for gRPC.
        http: for HTTP, where this Triton can protect it; 0 for none.
        backends: where the wheel's backends are copied to, if they are not there yet. It stays absent where the server
            on PATH is used, which has its own.
        control: `none`, or `poll` to follow changes in the repository; explicit control would run any Python that a
            client uploads.

    Raises:
        UserError: there is no Triton, the wheel's does not support this Python, or it cannot write where it must.
    """
    if not os.access(TRITON_TEMPORARY, os.W_OK | os.X_OK):
        raise UserError(
            f"Triton cannot write to {TRITON_TEMPORARY}, where its Python backend keeps a small folder; where the file "
            f"system is read-only, mount a tmpfs there"
        )
    environment = dict(os.environ)
    environment["PYTHONNOUSERSITE"] = "1"
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # each model's process computes on one thread
        environment.setdefault(pool, "1")
    binary = shutil.which("tritonserver")
    from_wheel = binary is None
    if binary is None:
        binary = str(prepare_wheel_server(backends, environment))
    arguments = [
        binary,
        f"--model-repository={repository.resolve()}",
        f"--model-control-mode={control}",
        "--disable-auto-complete-config",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={STOP_SECONDS // 2}",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={port}",
        "--allow-metrics=false",
    ]
    if http and HTTP_PROTECTION in listed_flags(binary, environment):
        arguments += ["--allow-http=true", f"--http-address={LOOPBACK}", f"--http-port={http}"]
    else:
        arguments.append("--allow-http=false")
    if from_wheel:
        arguments.append(f"--backend-directory={backends}")
    return arguments, environment


def require_triton() -> None:
    """Asks what `triton_command` will need, before hours of training.

    Raises:
        UserError: there is no Triton, or the wheel's cannot run models with this Python.
    """
    if shutil.which("tritonserver") is None:
        _wheel(os.environ)


def prepare_wheel_server(backends: Path, environment: dict[str, str]) -> Path:
    """The server inside the nvidia-pytriton wheel, started directly; fills `backends` for this Python.

    Sets in `environment` what the Python stub needs: this interpreter first on PATH, and its libpython before the
    wheel's libraries, as the stub is linked against one and a different patch version does not load.

    Raises:
        UserError: there is no wheel, or it cannot run models with this Python.
    """
    root, stub, libraries = _wheel(environment)
    backend = backends / "python"  # copied, as Triton refuses symbolic links
    sources = [*(root / "backends" / "python").iterdir(), stub]
    if not all((backend / source.name).exists() for source in sources):
        shutil.rmtree(backend, ignore_errors=True)
        shutil.copytree(root / "backends" / "python", backend)
        shutil.copy(stub, backend)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return root / "bin" / "tritonserver"


def _wheel(environment: Mapping[str, str]) -> tuple[Path, Path, list[str]]:
    """The folder of the wheel's server, its stub for this Python, and where the stub looks for libraries first."""
    spec = find_spec("pytriton")  # found, not imported
    if spec is None or spec.origin is None:
        raise UserError(
            "no tritonserver on PATH and no nvidia-pytriton wheel; run make venv, or use the Triton container"
        )
    root = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise UserError(f"the Triton wheel has no stub for Python {sys.version.split()[0]}; use Python 3.10 or 3.11")
    libraries = [sysconfig.get_config_var("LIBDIR"), str(root.parent.parent / "nvidia_pytriton.libs")]
    libraries += environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    libpython = f"libpython{version}.so.1.0"
    if not any(folder and Path(folder, libpython).exists() for folder in libraries) and not find_library(
        f"python{version}"
    ):
        raise UserError(
            f"Triton's Python backend needs {libpython}, which this Python lacks; install it (Debian, Ubuntu: apt "
            f"install libpython{version}), or use a Python with a shared library (pyenv: "
            f"PYTHON_CONFIGURE_OPTS=--enable-shared)"
        )
    return root, stub, [folder for folder in libraries if folder]
