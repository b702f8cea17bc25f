"""The front door's gRPC, asked by tritonclient and by clients that mean no good."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
from prometheus_client import CollectorRegistry
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from ensemble.front_door.door import Door
from ensemble.front_door.grpc_service import NO_STREAMS, NOT_SERVED, GrpcService, grpc_server
from ensemble.front_door.metrics import Metrics
from ensemble.front_door.settings import Limits
from ensemble.front_door.upstream import SERVICE, Upstream
from tests.ensemble.front_door.models import add, score_request
from tests.ensemble.front_door.small_triton import SmallTriton
from tests.ensemble.front_door.workers import TritonInThread, Worker, inputs, worker

HANG_SECONDS = 60.0
CALLS = list(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
SERVED = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig"}
SERVED |= {"ModelStatistics", "ModelInfer"}
HEALTH = {"ServerLive", "ServerReady", "ModelReady"}


class Scene:
    """A front door's server in the loop of the test, on a small Triton."""

    def __init__(self, triton: SmallTriton, door: Door, url: str, metrics: Metrics):
        self.triton, self.door, self.url, self.metrics = triton, door, url, metrics

    def count(self, outcome: str, model: str = "score", asker: str = "client") -> float:
        return self.metrics.requests.labels(model, "grpc", outcome, asker)._value.get()

    def refusals(self, reason: str, model: str = "score", asker: str = "client") -> float:
        return self.metrics.refusals.labels(model, reason, asker)._value.get()

    async def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not is_so():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


USUAL = Limits()


def beside_server(scene: Callable[[Scene], Awaitable[None]], secret: str = "", limits: Limits = USUAL) -> None:
    async def run() -> None:
        triton = SmallTriton()
        await triton.start()
        metrics = Metrics(CollectorRegistry())
        door = Door(Upstream(triton.url, {}), limits, metrics)
        server, port = grpc_server(GrpcService(door, secret), limits, "127.0.0.1:0", None, False)
        await server.start()
        made = Scene(triton, door, f"127.0.0.1:{port}", metrics)
        try:
            await asyncio.wait_for(scene(made), HANG_SECONDS)
            triton.gate.set()
            await made.until(lambda: not door.tasks)
            assert not triton.cancelled
        finally:
            await server.stop(None)
            await door.close(1.0)
            await triton.end()

    asyncio.run(run())


def caller(channel, method: str = "ModelInfer"):
    """Sends bytes, and gives the answer's bytes."""
    return channel.unary_unary(SERVICE + method)


async def status_of(work: Awaitable) -> tuple[grpc.StatusCode, str]:
    try:
        await work
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_tritonclient_is_answered_in_each_of_its_calls():
    async def scene(made):
        async with triton_aio.InferenceServerClient(made.url) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("score")
            assert not await client.is_model_ready("nope")
            assert (await client.get_server_metadata()).name == "triton"
            assert (await client.get_model_metadata("score")).versions == ["1"]
            assert (await client.get_model_config("score")).config.name == "score"
            await client.get_inference_statistics("score")
            found = await client.infer("score", inputs([1, 2]), request_id="mine")
            assert found.get_response().id == "mine"
            assert found.as_numpy("score").tolist() == np.array([0.001, 0.002], np.float32).tolist()
            wanted = [triton_aio.InferRequestedOutput("known")]
            found = await client.infer("score", inputs([1]), outputs=wanted)
            assert found.as_numpy("score") is None
            assert found.as_numpy("known").tolist() == [True]

        def blocking() -> None:
            with triton_grpc.InferenceServerClient(made.url) as client:
                assert client.is_server_ready()
                assert client.infer("score", inputs([3])).as_numpy("known").tolist() == [True]
                made.triton.gate.clear()
                with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
                    client.infer("score", inputs([3]), client_timeout=0.1)

        await asyncio.to_thread(blocking)

    beside_server(scene)


FORMS = [
    ("triton-grpc-protocol-marquee-secret", "{}"),
    ("marquee-secret", "{}"),
    ("authorization", "Bearer {}"),
    ("authorization", "bearer  {}"),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_secret_is_taken_in_each_form(name, form):
    async def scene(made):
        request = score_request([1]).SerializeToString()
        async with grpc.aio.insecure_channel(made.url) as channel:
            ask = caller(channel)
            assert (await status_of(ask(request, metadata=[(name, form.format("sesame"))])))[0] == grpc.StatusCode.OK
            for wrong in ("", "sesam", "sesame2", "Sesame"):
                code, sentence = await status_of(ask(request, metadata=[(name, form.format(wrong))]))
                assert code == grpc.StatusCode.UNAUTHENTICATED
                assert "sesame" not in sentence
            assert (await status_of(ask(request, metadata=[("other", "sesame")])))[0] == grpc.StatusCode.UNAUTHENTICATED
            assert (await status_of(ask(b"\xff", metadata=[])))[0] == grpc.StatusCode.UNAUTHENTICATED
        assert made.refusals("secret", "unknown") == 6
        assert len(made.triton.asked) == 1

    beside_server(scene, "sesame")


def test_without_the_secret_health_alone_is_open():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            for method in CALLS:
                if method == "ModelStreamInfer":
                    continue
                request = getattr(service_pb2, f"{method}Request")()
                if method in ("ModelReady", "ModelMetadata", "ModelConfig"):
                    request.name = "score"
                code, sentence = await status_of(caller(channel, method)(request.SerializeToString()))
                if method in HEALTH:
                    assert code == grpc.StatusCode.OK, method
                elif method in SERVED:
                    assert code == grpc.StatusCode.UNAUTHENTICATED, method
                else:
                    assert (code, sentence) == (grpc.StatusCode.UNIMPLEMENTED, NOT_SERVED), method

    beside_server(scene, "sesame")


def test_control_shared_memory_trace_and_logging_are_refused_with_a_sentence():
    async def scene(made):
        async with triton_aio.InferenceServerClient(made.url) as client:
            for work in (
                client.load_model("score"),
                client.unload_model("score"),
                client.get_model_repository_index(),
                client.register_system_shared_memory("a", "/a", 8),
                client.unregister_system_shared_memory(),
                client.get_system_shared_memory_status(),
                client.unregister_cuda_shared_memory(),
                client.update_trace_settings("score", {"trace_level": ["TIMESTAMPS"]}),
                client.get_trace_settings(),
                client.update_log_settings({"log_verbose_level": 1}),
            ):
                with pytest.raises(InferenceServerException, match=NOT_SERVED):
                    await work
        assert not made.triton.questions

    beside_server(scene)


def test_streams_are_refused_with_a_sentence():
    async def scene(made):
        def blocking() -> str:
            heard: list = []
            with triton_grpc.InferenceServerClient(made.url) as client:
                client.start_stream(lambda result, error: heard.append((result, error)))
                client.async_stream_infer("score", inputs([1]))
                deadline = time.monotonic() + HANG_SECONDS
                while not heard and time.monotonic() < deadline:
                    time.sleep(0.01)
                client.stop_stream(cancel_requests=True)
            return str(heard[0][1])

        assert NO_STREAMS in await asyncio.to_thread(blocking)

    beside_server(scene)


def test_another_service_is_not_there():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            for path in ("/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService2/ModelInfer", "/x", "/"):
                code, _ = await status_of(channel.unary_unary(path)(b""))
                assert code == grpc.StatusCode.UNIMPLEMENTED

    beside_server(scene)


GARBAGE = [b"\xff", b"\0" * 100, b"\x0a\xff\xff\xff\xff\x0f", bytes(range(256)), b"\x0a\x03a\xffb"]


@pytest.mark.parametrize("body", GARBAGE)
def test_what_is_no_message_is_refused(body):
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            code, sentence = await status_of(caller(channel)(body))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "not a ModelInferRequest" in sentence
            for method in ("ModelReady", "ModelMetadata"):
                code, _ = await status_of(caller(channel, method)(body))
                assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert (await status_of(caller(channel)(score_request([1]).SerializeToString())))[0] == grpc.StatusCode.OK
        assert made.refusals("bytes", "unknown") == 1

    beside_server(scene)


def test_a_message_larger_than_the_limit_is_refused_and_one_below_it_is_not():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            ask = caller(channel)
            code, sentence = await status_of(ask(score_request([1] * 70_000).SerializeToString()))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in sentence
            assert (await status_of(ask(score_request([1] * 60_000).SerializeToString())))[0] == grpc.StatusCode.OK

    beside_server(scene, limits=Limits(bytes=1_000_000))


def test_compressed_messages_are_refused_in_words():
    """grpcio 1.60, which NVIDIA's image has, inflates a message whole before it looks at the limit."""

    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
                code, sentence = await status_of(
                    caller(channel)(score_request([1] * 1000).SerializeToString(), compression=kind)
                )
                assert code == grpc.StatusCode.UNIMPLEMENTED
                assert "disabled" in sentence
        async with triton_aio.InferenceServerClient(made.url) as client:
            with pytest.raises(InferenceServerException, match="disabled"):
                await client.infer("score", inputs([1] * 100), compression_algorithm="gzip")
            await client.infer("score", inputs([1] * 100))

    beside_server(scene)


def test_more_requests_than_the_bound_are_shed_in_words_and_health_is_answered():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            ask, request = caller(channel), score_request([1]).SerializeToString()
            await ask(request)
            made.triton.gate.clear()
            calls = [asyncio.ensure_future(status_of(ask(request, timeout=HANG_SECONDS))) for _ in range(30)]
            await made.until(lambda: sum(call.done() for call in calls) == 26)
            found = {call.result() for call in calls if call.done()}
            assert {code for code, _ in found} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            ready = caller(channel, "ServerReady")(b"", timeout=HANG_SECONDS)
            assert (await status_of(ready))[0] == grpc.StatusCode.OK
            made.triton.gate.set()
            await asyncio.wait(calls)
            assert sum(call.result()[0] == grpc.StatusCode.OK for call in calls) == 4
        assert made.count("shed") <= 26

    beside_server(scene, limits=Limits(requests=4))


def test_a_flood_of_metadata_is_refused():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            request = score_request([1]).SerializeToString()
            for metadata in ([("a", "b" * 100_000)], [(f"a{place}", "b" * 100) for place in range(1000)]):
                code, _ = await status_of(caller(channel)(request, metadata=metadata))
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        async with grpc.aio.insecure_channel(made.url) as channel:
            assert (await status_of(caller(channel)(request)))[0] == grpc.StatusCode.OK

    beside_server(scene, "")


def test_each_outcome_is_counted_for_its_model():
    async def scene(made):
        async with grpc.aio.insecure_channel(made.url) as channel:
            ask, request = caller(channel), score_request([1]).SerializeToString()
            await ask(request)
            await ask(request, metadata=[("marquee-canary", "1")])
            assert (made.count("answered"), made.count("answered", asker="canary")) == (1, 1)
            bad = score_request([1])
            bad.inputs[0].datatype = "FP32"
            await status_of(ask(bad.SerializeToString()))
            assert (made.count("refused"), made.refusals("type")) == (1, 1)
            unknown = score_request([1])
            for place in range(5):
                unknown.model_name = f"unknown-{place}"
                await status_of(ask(unknown.SerializeToString()))
            assert (made.count("refused", "unknown"), made.refusals("name", "unknown")) == (5, 5)
            made.triton.gate.clear()
            for _ in range(5):
                assert (await status_of(ask(request, timeout=0.1)))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
            await made.until(lambda: made.count("expired") + made.count("cancelled") == 5)
            assert made.count("expired") == 5
            call = ask(request)
            await made.until(lambda: made.door.schedule.requests == 1)
            call.cancel()
            await made.until(lambda: made.count("cancelled") == 1)

    beside_server(scene)


# -- in a process of its own, for its memory ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process() -> Iterator[Worker]:
    triton = TritonInThread()
    with worker(triton=triton.triton.url) as found:
        yield found
    triton.close()


def peak(one: Worker) -> int:
    """MiB that the process has ever held."""
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


BOMB = """
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1], [("grpc.max_send_message_length", -1)])
ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
call = ask.future(bytes(int(sys.argv[2])), compression=grpc.Compression.Gzip)
print(call.code().name)
"""


@pytest.mark.slow
def test_a_bomb_stays_small(process):
    before = peak(process)
    bomb = subprocess.run([sys.executable, "-c", BOMB, process.url, str(300 << 20)], capture_output=True, text=True)
    assert bomb.stdout.strip() in ("UNIMPLEMENTED", "RESOURCE_EXHAUSTED")
    assert peak(process) < before + 50


@pytest.mark.slow
def test_large_refused_requests_leave_no_memory_behind(process):
    """An unknown name, a text and an id of megabytes each, and a shape of a million dimensions."""
    found = []
    for place in range(4):
        request = score_request([1])
        if place == 0:
            request.model_name = "x" * 7_000_000
        elif place == 1:
            request.inputs[0].name = "x" * 7_000_000
        elif place == 2:
            request.inputs[0].shape.extend([1] * 1_000_000)
        else:
            request.model_name = "recommend"
            add(request, "model", "BYTES", [1], (6_000_000).to_bytes(4, "little") + bytes(6_000_000))
        found.append(request.SerializeToString())
    with grpc.insecure_channel(process.url) as channel:
        ask = channel.unary_unary(SERVICE + "ModelInfer")

        def rounds(count: int) -> None:
            for _ in range(count):
                for body in found:
                    with pytest.raises(grpc.RpcError) as raised:
                        ask(body, timeout=HANG_SECONDS)
                    assert raised.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

        rounds(5)
        before = psutil.Process(process.process.pid).memory_info().rss
        rounds(15)
        after = psutil.Process(process.process.pid).memory_info().rss
    assert after < before + (60 << 20)
