"""A server that speaks Triton's gRPC in the loop of the test, and fails as it is told to."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from tests.ensemble.front_door.models import CONFIGS

Fail = tuple[grpc.StatusCode, str]


class SmallTriton(grpc.GenericRpcHandler):
    """Answers `score` with `user_id / 1000`, and `recommend` with the user's number.

    Attributes:
        fail: given a request, a status and words to fail with, or None.
        spoil: changes an answer before it is sent.
        gate: while it is cleared, inference hangs.
        asked: the requests for inference that came, in their order.
        under_way, most_under_way: requests for inference.
        cancelled: how many calls were cancelled: the front door may never do that.
    """

    def __init__(self) -> None:
        self.fail: Callable[[Message], Fail | None] = lambda _: None
        self.spoil: Callable[[Message], None] = lambda _: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.talks = asyncio.Event()  # while it is cleared, questions about models hang
        self.talks.set()
        self.version = "1"
        self.versions = ["1"]
        self.asked: list[Message] = []
        self.questions: list[str] = []
        self.headers: list[Any] = []
        self.under_way = self.most_under_way = self.cancelled = 0
        self.port = 0
        self.server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listens; on the port that it had before unless one is given."""
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port or self.port}")
        await self.server.start()

    async def end(self) -> None:
        """Ends at once, as a killed one does."""
        if self.server is not None:
            before = self.cancelled
            await self.server.stop(None)
            await asyncio.sleep(0)
            self.cancelled = before
            self.server = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = call.method.rpartition("/")[2]
        answer = self._infer if method == "ModelInfer" else self._answer(method)
        kind = getattr(service_pb2, f"{method}Request")
        return grpc.unary_unary_rpc_method_handler(answer, kind.FromString, lambda found: found.SerializeToString())

    def _answer(self, method: str) -> Any:
        async def answer(request: Message, context: Any) -> Message:
            self.questions.append(method)
            try:
                if method != "ServerLive":
                    await self.talks.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            name = getattr(request, "name", "")
            if method.startswith("Model") and name not in CONFIGS:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
            if method == "ModelConfig":
                return service_pb2.ModelConfigResponse(config=CONFIGS[name])
            if method == "ModelMetadata":
                return service_pb2.ModelMetadataResponse(name=name, versions=self.versions)
            if method == "ServerMetadata":
                return service_pb2.ServerMetadataResponse(name="triton", extensions=["statistics", "trace"])
            found = getattr(service_pb2, f"{method}Response")()
            if method == "ServerLive":
                found.live = True
            elif method.endswith("Ready"):
                found.ready = True
            return found

        return answer

    async def _infer(self, request: Message, context: Any) -> Message:
        self.asked.append(request)
        self.headers.append(context.invocation_metadata())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            if failure := self.fail(request):
                await context.abort(*failure)
            answer = self._answered(request)
            self.spoil(answer)
            return answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1

    def _answered(self, request: Message) -> Message:
        answer = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version or self.version, id=request.id
        )
        first = np.frombuffer(request.raw_input_contents[0], np.int64)
        if request.model_name == "score":
            found = {"score": ("FP32", (first / 1000).astype(np.float32)), "known": ("BOOL", first > 0)}
        else:
            title = b"%d" % first[0]
            found = {
                "movie_id": ("INT64", first),
                "title": ("BYTES", np.frombuffer(len(title).to_bytes(4, "little") + title, np.uint8)),
            }
        for name in [one.name for one in request.outputs] or found:
            datatype, values = found[name]
            shape = [1] if datatype == "BYTES" else [len(values)]
            answer.outputs.add(name=name, datatype=datatype, shape=shape)
            answer.raw_output_contents.append(values.tobytes())
        return answer
