"""`python -m marquee health`: exit code and line, for a server that answers, sheds, refuses, hangs or is not there."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "merlin", "nvtabular", "tensorflow", "pandas", "pyarrow", "onnxruntime", "scipy")
SECRET = "only-for-this-test"


def health(*arguments: object, folder: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return subprocess.run(
        [sys.executable, "-m", "marquee", "health", *map(str, arguments)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


class Described(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that says which ids its models take."""

    def ModelMetadata(self, request, context):
        kinds = {"user_id": "INT64", "movie_id": "INT64"}
        inputs = [
            service_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=kind, shape=[-1])
            for name, kind in kinds.items()
        ]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=inputs)


class Shedding(Described):
    """A server that sheds every question to its models, and keeps what came with it."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []

    def ModelInfer(self, request, context):
        self._shed(context)

    def ServerLive(self, request, context):
        self._shed(context)

    def _shed(self, context):
        self.metadata.append(dict(context.invocation_metadata()))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "512 requests are under way; ask again later")


class Wrong(Described):
    """A server that answers every question without any output."""

    def ModelInfer(self, request, context):
        return service_pb2.ModelInferResponse(model_name=request.model_name, model_version="7")


def serving(servicer: service_pb2_grpc.GRPCInferenceServiceServicer) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def shedding() -> Iterator[tuple[str, Shedding]]:
    servicer = Shedding()
    for url in serving(servicer):
        yield url, servicer


@pytest.fixture
def silent() -> Iterator[str]:
    """A port where connections are taken and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_is_not_there(tmp_path):
    done = health("--url", f"127.0.0.1:{free_port()}", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not ready: score: no Triton answers at ")
    assert done.stderr.count("\n") == 1


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(silent):
    for options, expected in (([], "not ready: score: "), (["--live"], "not live: ")):
        done = health("--url", silent, "--timeout", 0.3, *options)
        assert done.returncode == 1
        assert done.stderr.startswith(expected)
        assert done.stderr.count("\n") == 1


def test_a_server_that_sheds_is_live_and_not_ready(shedding):
    url, servicer = shedding
    done = health("--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "not ready: score: busy: 512 requests are under way; ask again later\n"
    done = health("--url", url, "--live")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("live: busy: 512 requests are under way; ask again later, in ")
    assert done.stdout.count("\n") == 1
    assert [sent["marquee-canary"] for sent in servicer.metadata] == ["1", "1"]


def test_an_answer_without_its_output_is_not_ready():
    for url in serving(Wrong()):
        done = health("--url", url)
        assert (done.returncode, done.stderr) == (1, "not ready: score: its score is missing\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "nowhere"),
        ("--timeout", "0"),
        ("--timeout", "soon"),
        ("--ca", "/no/such/file"),
        ("--secret-file", "/no/such/file"),
        ("--certificate", __file__),
        ("--server-name", "marquee.example"),
        ("--deep",),
    ],
)
def test_a_wrong_argument_is_exit_code_2(arguments):
    done = health(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_it_starts_fast():
    """A probe runs every few seconds: it imports the client and nothing of training."""
    code = f"""
import sys
from marquee.app import main
try:
    main(["health", "--url", "127.0.0.1:{free_port()}"])
finally:
    print(sorted(set({HEAVY!r}) & {{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, done.stdout) == (1, "[]\n"), done.stderr


@contextmanager
def front_door(**settings: object) -> Iterator[str]:
    """A worker of the front door; gives its URL."""
    command = [sys.executable, "-m", "ensemble.front_door"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        print(json.dumps(settings), file=worker.stdin, flush=True)
        yield f"127.0.0.1:{json.loads(worker.stdout.readline().removeprefix('ready '))['grpc']}"
        worker.stdin.close()  # ends it


@pytest.mark.slow
def test_a_server_behind_the_front_door_is_ready_until_triton_hangs(exported, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with (
        running(exported.repository, tmp_path / "triton.log", Ports(free_port())) as server,
        front_door(triton=server.url, secret=SECRET) as url,
    ):
        done = health("--url", url, "--secret-file", secret, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ready: score, recommend and similar answer, version 1, in ")
        done = health("--url", url)
        assert done.returncode == 1
        assert "secret" in done.stderr
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            done = health("--url", url, "--secret-file", secret, "--timeout", 1)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith("not ready: score: ")
            assert health("--url", url, "--live").returncode == 0  # Triton is the supervisor's to restart
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_real_server_is_ready(exported, tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(SECRET)
    wrong.write_text("another")
    with running(exported.repository, tmp_path / "triton.log", Ports(free_port()), SECRET) as server:
        done = health("--url", server.url, "--secret-file", right, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ready: score, recommend and similar answer, version 1, in ")
        done = health("--url", server.url, "--secret-file", wrong)
        assert done.returncode == 1
        assert "different secret" in done.stderr
        assert health("--url", server.url, "--live").returncode == 0  # load balancers know no secret
        for stub in server.stubs("similar"):
            stub.kill()
        done = health("--url", server.url, "--secret-file", right)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("not ready: similar: ")
