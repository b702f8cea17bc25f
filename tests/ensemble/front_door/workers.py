"""Workers of the front door as processes, with a small Triton in a thread behind them."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc as triton_grpc

from tests.ensemble.front_door.small_triton import SmallTriton

ROOT = Path(__file__).resolve().parents[3]
HANG_SECONDS = 120.0
CERTIFICATES = ("root_certificates", "private_key", "certificate_chain")  # options of tritonclient


@dataclass
class Worker:
    """A process: what it was started with, and where it listens."""

    process: subprocess.Popen
    settings: dict
    ports: dict = field(default_factory=dict)

    @property
    def url(self) -> str:
        host = self.settings.get("host", "127.0.0.1")
        return f"[{host}]:{self.ports['grpc']}" if ":" in host else f"{host}:{self.ports['grpc']}"

    def note(self, line: str | dict) -> None:
        self.process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Closes its input; its exit code and its errors."""
        self.process.stdin.close()
        code = self.process.wait(HANG_SECONDS)
        return code, self.process.stderr.read()


def start(settings: dict | str, **options: Any) -> Worker:
    process = subprocess.Popen(
        [sys.executable, "-m", "ensemble.front_door"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    worker = Worker(process, settings if isinstance(settings, dict) else {})
    worker.note(settings)
    return worker


@contextmanager
def worker(**settings: Any) -> Iterator[Worker]:
    """A worker that listens."""
    found = start({"triton": "127.0.0.1:1", **settings})
    try:
        line = found.process.stdout.readline()
        assert line.startswith("ready "), found.process.stderr.read()
        found.ports = json.loads(line.removeprefix("ready "))
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        for pipe in (found.process.stdin, found.process.stdout, found.process.stderr):
            pipe.close()


class TritonInThread:
    """A small Triton for clients that block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.triton: SmallTriton = self.run(self._made())

    async def _made(self) -> SmallTriton:
        triton = SmallTriton()
        await triton.start()
        return triton

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(HANG_SECONDS)

    def hold(self) -> None:
        """Inference hangs until `let_go`."""
        self.loop.call_soon_threadsafe(self.triton.gate.clear)

    def let_go(self) -> None:
        self.loop.call_soon_threadsafe(self.triton.gate.set)

    def close(self) -> None:
        self.let_go()
        self.run(self.triton.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def inputs(users: list[int]) -> list:
    found = []
    for name in ("user_id", "movie_id"):
        one = triton_grpc.InferInput(name, [len(users)], "INT64")
        one.set_data_from_numpy(np.array(users, np.int64))
        found.append(one)
    return found


def score(url: str, users: list[int], **asked: Any) -> list[float]:
    """By tritonclient."""
    options = {name: asked.pop(name) for name in ("ssl", *CERTIFICATES) if name in asked}
    with triton_grpc.InferenceServerClient(url, **options) as client:
        return client.infer("score", inputs(users), **asked).as_numpy("score").tolist()
