"""The front door before the real Triton: storms, malformed requests, dead Python processes, and an end of Triton."""

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from core.errors import UserError
from core.temporary import temporary_folder
from ensemble.headers import SECRET_HEADER
from ensemble.repository import releases
from ensemble.server.canary import Canary
from ensemble.server.health import Health
from ensemble.server.ports import free_port
from ensemble.server.process import Server, exit_code, start
from tests.ensemble.front_door.models import add, score_request
from tests.ensemble.front_door.workers import Worker, worker

pytestmark = pytest.mark.slow
HANG_SECONDS = 300.0
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SECRET = "inside"
STORM_SECONDS = 15.0
STARTS = 3  # of a Triton, at most, until one answers
MOST_MORE = 200 << 20  # bytes that the allocator may keep after a storm; it was 319 MiB in 15 s, and more with each


@dataclass
class Served:
    """A Triton and the worker before it."""

    server: Server
    release: releases.Release
    canary: Canary
    health: Health
    worker: Worker
    start: Callable[[], Server]

    def rss(self) -> int:
        return psutil.Process(self.worker.process.pid).memory_info().rss

    def start_again(self) -> None:
        """Another Triton, as the supervisor does it: one that dies while it starts is replaced too."""
        for left in reversed(range(STARTS)):
            self.server.stop()
            self.server = self.start()
            self.worker.note({"triton": self.server.url, "http": self.server.http})
            try:
                return self.server.wait_until_it_answers(self.canary)
            except UserError:
                if not left or exit_code(self.server.process) is None:
                    raise


@pytest.fixture(scope="module", params=["http", "grpc"])
def served(request, exported, tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("triton")
    health = Health()
    with temporary_folder("marquee-triton-") as temporary:
        release = releases.take(exported.repository, temporary / "release", command="export")
        canary = Canary(release)

        def triton() -> Server:
            http = free_port() if request.param == "http" else 0
            log: Path = folder / "triton.log"
            return start(release.folder, temporary / "backends", log, free_port(), SECRET, http=http)

        server = triton()
        try:
            server.wait_until_it_answers(canary)
            with worker(
                triton=server.url,
                triton_headers=server.access.headers,
                triton_http=server.http,
                triton_http_headers={SECRET_HEADER: SECRET},
            ) as front:
                found = Served(server, release, canary, health, front, triton)
                yield found
                server = found.server
                assert front.process.poll() is None
                code, errors = front.end()
                assert code == 0
                assert "Traceback" not in errors, errors
        finally:
            health.close()
            server.stop()


@pytest.fixture(autouse=True)
def _another_triton_after_a_failure(request: pytest.FixtureRequest, served: Served) -> Iterator[None]:
    """What a test that failed has left may hang, and each test after it would wait for that."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        served.start_again()


def recommend(user: int, model: bytes = b"") -> Message:
    request = service_pb2.ModelInferRequest(model_name="recommend")
    add(request, "user_id", "INT64", [1], np.array([user], np.int64).tobytes())
    if model:
        add(request, "model", "BYTES", [1], model)
    return request


def similar(movie: int) -> Message:
    request = service_pb2.ModelInferRequest(model_name="similar")
    add(request, "movie_id", "INT64", [1], np.array([movie], np.int64).tobytes())
    return request


def pairs(count: int) -> Message:
    request = service_pb2.ModelInferRequest(model_name="score")
    rng = np.random.default_rng(count)
    add(request, "user_id", "INT64", [count], (2 * rng.integers(0, 60, count) + 1).tobytes())
    add(request, "movie_id", "INT64", [count], (10 * rng.integers(1, 120, count)).tobytes())
    return request


GOOD = [score_request([1]), pairs(10), pairs(9000), recommend(1), recommend(3), similar(10), similar(30)]


def caller(channel):
    return channel.unary_unary(
        METHOD, service_pb2.ModelInferRequest.SerializeToString, service_pb2.ModelInferResponse.FromString
    )


def answers_of(served: Served) -> list[list[bytes]]:
    with grpc.insecure_channel(served.worker.url) as channel:
        return [list(caller(channel)(one, timeout=HANG_SECONDS).raw_output_contents) for one in GOOD]


def are_equal(answer: Message, expected: list[bytes]) -> bool:
    """Scores may differ in the last bits, as what is computed together changes."""
    for output, found, wanted in zip(answer.outputs, answer.raw_output_contents, expected):
        if output.datatype == "FP32":
            if not np.allclose(np.frombuffer(found, "f4"), np.frombuffer(wanted, "f4"), atol=1e-5):
                return False
        elif found != wanted:
            return False
    return True


@dataclass
class Load:
    """Good clients in a thread of their own, while something happens."""

    served: Served
    seconds: float = 20.0  # of each request's deadline
    clients: int = 3

    def __enter__(self) -> "Load":
        self.expected = answers_of(self.served)
        self.count, self.wrong = 0, []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        with grpc.insecure_channel(self.served.worker.url, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = caller(channel)
            while not self.ending.is_set():
                place = rng.randrange(len(GOOD))
                try:
                    answer = ask(GOOD[place], timeout=self.seconds)
                except grpc.RpcError as error:
                    self.wrong.append((GOOD[place].model_name, error.code().name, error.details()))
                else:
                    self.count += 1
                    if not are_equal(answer, self.expected[place]):
                        self.wrong.append((GOOD[place].model_name, "another answer"))

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(HANG_SECONDS)


async def storm(url: str, seconds: float) -> Counter:
    """Eight clients that cancel, or have deadlines of 0 to 8 ms."""
    found: Counter = Counter()
    until = time.monotonic() + seconds

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        async with grpc.aio.insecure_channel(url, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = caller(channel)
            while time.monotonic() < until:
                one = rng.choice([*GOOD, pairs(50_000)])
                try:
                    if rng.random() < 0.5:
                        call = ask(one)
                        await asyncio.sleep(rng.random() * 0.008)
                        call.cancel()
                        await call
                    else:
                        await ask(one, timeout=rng.random() * 0.008)
                    found["answered"] += 1
                except asyncio.CancelledError:
                    found["cancelled"] += 1
                except grpc.aio.AioRpcError as error:
                    found[error.code().name] += 1

    await asyncio.gather(*(client(seed) for seed in range(8)))
    return found


def settles(served: Served, before: int) -> None:
    """The memory of the storm is free again soon: it stayed while tracebacks kept the requests."""
    deadline = time.monotonic() + 60
    while served.rss() > before + MOST_MORE:
        assert time.monotonic() < deadline, (before >> 20, served.rss() >> 20)
        asyncio.run(storm(served.worker.url, 1.0))
        time.sleep(0.5)


def test_a_storm_of_cancellations_harms_nobody(served):
    pid = served.server.process.pid
    stubs = [one.pid for model in ("recommend", "scorer", "similar") for one in served.server.stubs(model)]
    asyncio.run(storm(served.worker.url, 2.0))
    before = served.rss()
    with Load(served) as good:
        found = asyncio.run(storm(served.worker.url, STORM_SECONDS))
    print(found, good.count, "worker RSS MiB", before >> 20, served.rss() >> 20)
    assert not good.wrong
    assert good.count > 10
    assert found["cancelled"] > 100
    # A deadline of a few milliseconds may end on the other side first, which is then seen as CANCELLED.
    assert set(found) <= {"answered", "cancelled", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert exit_code(served.server.process) is None
    assert served.server.process.pid == pid
    after = [one.pid for model in ("recommend", "scorer", "similar") for one in served.server.stubs(model)]
    assert after == stubs
    settles(served, before)


def malformed() -> list[Message]:
    found = [recommend(1, raw) for raw in (b"\xff\xff\xff\xff", b"\3\0\0\0dl", b"\0", b"\4\0\0\0dlrm\0")]
    for shape in ([2**61], [2**62, 2], [2**32, 2**32], [-1], [2**31], []):
        one = score_request([1])
        for tensor, place in zip(one.inputs, range(2)):
            del tensor.shape[:]
            tensor.shape.extend(shape)
            one.raw_input_contents[place] = b""
        found.append(one)
        history = recommend(1)
        add(history, "history", "INT64", shape, b"")
        found.append(history)
    return found


def test_malformed_requests_harm_nobody(served):
    stubs = [one.pid for model in ("recommend", "scorer", "similar") for one in served.server.stubs(model)]
    with Load(served) as good, grpc.insecure_channel(served.worker.url) as channel:
        ask = caller(channel)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            calls = [ask.future(one, timeout=HANG_SECONDS) for one in malformed()]
            assert {call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert not good.wrong
    assert good.count > 10
    after = [one.pid for model in ("recommend", "scorer", "similar") for one in served.server.stubs(model)]
    assert after == stubs


def test_a_request_of_no_rows_is_answered(served):
    with grpc.insecure_channel(served.worker.url) as channel:
        answer = caller(channel)(score_request([]), timeout=HANG_SECONDS)
    assert [list(one.shape) for one in answer.outputs] == [[0], [0]]
    assert list(answer.raw_output_contents) == [b"", b""]


def test_what_the_model_refuses_is_the_clients_mistake_at_once(served):
    """A model that is not there is known to the Python model only."""
    with grpc.insecure_channel(served.worker.url) as channel, pytest.raises(grpc.RpcError) as raised:
        caller(channel)(recommend(1, b"\4\0\0\0nope"), timeout=HANG_SECONDS)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "nope" in raised.value.details()


@pytest.mark.parametrize("model", ["scorer", "recommend"])
@pytest.mark.parametrize("how", ["kill", "suspend"])
def test_who_waits_for_a_dead_python_process_is_answered_once_it_is_loaded_again(served, model, how):
    """As the supervisor does it: it needs a moment to find out."""
    assert served.health.is_alive(served.server, served.canary, model)
    pid = served.server.process.pid
    with Load(served, seconds=60.0) as good:
        time.sleep(0.5)
        getattr(served.server.stubs(model)[0], how)()
        time.sleep(2.0)
        assert served.health.reload(served.server, served.canary, model, served.release.folder)
        count = good.count
        deadline = time.monotonic() + HANG_SECONDS
        while good.count < count + 20 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert not good.wrong
    assert good.count >= count + 20
    assert served.server.process.pid == pid
    assert exit_code(served.server.process) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_waits_while_triton_is_started_again_is_answered(served, number):
    with Load(served, seconds=120.0) as good:
        time.sleep(0.5)
        with suppress(ProcessLookupError):
            os.kill(served.server.process.pid, number)
        if number == signal.SIGTERM:
            time.sleep(1.0)
        served.start_again()
        count = good.count
        deadline = time.monotonic() + HANG_SECONDS
        while good.count < count + 20 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert not good.wrong
    assert good.count >= count + 20
