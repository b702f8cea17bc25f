"""HTTP servers in processes of their own, whose door echoes (see echo_door.py)."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
HANG_SECONDS = 60.0


@dataclass(frozen=True)
class Echo:
    """A server that runs: its address, and what its door has seen."""

    process: subprocess.Popen
    host: str
    port: int
    metrics_port: int
    secret: str

    def ask(self, method: str, path: str, body: bytes | str | None = None, headers: dict | None = None):
        """A status, the headers, and the body."""
        connection = HTTPConnection(self.host, self.port, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def raw(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=HANG_SECONDS)

    def echo(self, number: int) -> int:
        """A good request's answer."""
        asked = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [number]}]}
        headers = {"marquee-secret": self.secret} if self.secret else {}
        status, _, body = self.ask("POST", "/v2/models/echo/infer", json.dumps(asked), headers)
        assert status == 200, body
        return json.loads(body)["outputs"][0]["data"][0]

    def seen(self) -> dict:
        headers = {"marquee-secret": self.secret} if self.secret else {}
        _, _, body = self.ask("POST", "/v2/models/watch/infer", '{"inputs": []}', headers)
        return json.loads(json.loads(body)["outputs"][0]["data"][0])

    def memory(self) -> float:
        """MiB of the process."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@contextmanager
def serving(
    *, host: str = "127.0.0.1", secret: str = "", certificate: list[str] | None = None, **body: float
) -> Iterator[Echo]:
    asked = {"host": host, "secret": secret, "certificate": certificate, "body": body}
    command = [sys.executable, "-m", "tests.ensemble.front_door.echo_door", json.dumps(asked)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            port, metrics_port = json.loads(process.stdout.readline())
            yield Echo(process, host, port, metrics_port, secret)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def echo() -> Iterator[Echo]:
    """A server with the usual limits and without a secret."""
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Echo]]:
    """A function that starts servers; those of the same settings are one."""
    started: dict[str, Echo] = {}
    with ExitStack() as stack:

        def start(**asked) -> Echo:
            key = json.dumps(asked, sort_keys=True)
            if key not in started:
                started[key] = stack.enter_context(serving(**asked))
            return started[key]

        yield start
