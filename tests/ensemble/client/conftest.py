"""A gRPC server of Triton's protocol whose answers a test scripts: refusals and delays that a real one seldom gives."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ensemble.server.ports import free_port
from tests.names import HANG_SECONDS

KINDS = {"INT64": np.int64, "INT32": np.int32}


class Refused(Exception):
    """What a scripted server refuses a request with."""

    def __init__(self, code: grpc.StatusCode, sentence: str):
        super().__init__(sentence)
        self.code = code


class Scripted(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers `score` with the sum of a pair's ids, after what `before` does with a request.

    Attributes:
        before: called with the number of the request, from 0 on; may raise `Refused`, wait, or return a version.
        requests: what was asked, in order.
        times, deadlines: when, and the seconds that each then had.
        peers: the connections that asked.
        cancelled: set once a request has ended without its answer.
    """

    def __init__(self, before: Callable[[int], int | None]):
        self.before = before
        self.requests: list[service_pb2.ModelInferRequest] = []
        self.times: list[float] = []
        self.deadlines: list[float] = []
        self.peers: set[str] = set()
        self.cancelled = threading.Event()
        self.lock = threading.Lock()

    def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelInfer(self, request, context):
        context.add_callback(lambda: None if context.code() is grpc.StatusCode.OK else self.cancelled.set())
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
            self.times.append(time.monotonic())
            self.deadlines.append(context.time_remaining())
            self.peers.add(context.peer())
        try:
            version = self.before(number) or 1
        except Refused as error:
            context.abort(error.code, str(error))
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=str(version))
        ids = [
            np.frombuffer(raw, KINDS[one.datatype])
            for one, raw in zip(request.inputs, request.raw_input_contents)
            if one.datatype in KINDS
        ]
        if request.model_name == "score":
            outputs = {"score": ("FP32", (ids[0] + ids[1]).astype(np.float32)), "known": ("BOOL", ids[0] > 0)}
        else:
            movies = {"movie_id": ("INT64", np.array([7, 8])), "score": ("FP32", np.array([0.5, 0.25], np.float32))}
            outputs = movies | ({"known": ("BOOL", np.array([True]))} if request.model_name == "recommend" else {})
        for name, (kind, values) in outputs.items():
            answer.outputs.add(name=name, datatype=kind, shape=[len(values)])
            answer.raw_output_contents.append(values.tobytes())
        return answer

    def inputs(self, number: int) -> dict[str, list]:
        """The integers of a request by name, and its names as bytes."""
        request = self.requests[number]
        return {
            one.name: np.frombuffer(raw, KINDS[one.datatype]).tolist() if one.datatype in KINDS else [raw[4:]]
            for one, raw in zip(request.inputs, request.raw_input_contents)
        }


class Servers:
    """Scripted servers, each stopped at the end of the test."""

    def __init__(self) -> None:
        self.running: list[grpc.Server] = []

    def start(self, before: Callable[[int], int | None] = lambda _: None, url: str = "") -> tuple[str, Scripted]:
        """A server, on a port of its own where no URL is given."""
        url = url or f"127.0.0.1:{free_port()}"
        server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        scripted = Scripted(before)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(scripted, server)
        server.add_insecure_port(url)
        server.start()
        self.running.append(server)
        return url, scripted

    def stop(self) -> None:
        """Stops all at once, as a server that is killed does."""
        while self.running:
            self.running.pop().stop(0).wait(HANG_SECONDS)


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.stop()


def refuse(code: str, sentence: str, times: int) -> Callable[[int], None]:
    """Refuses the first so many requests."""

    def before(number: int) -> None:
        if number < times:
            raise Refused(getattr(grpc.StatusCode, code), sentence)

    return before
