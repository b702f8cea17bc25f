"""The front door's gRPC: KServe's protocol v2, as Triton speaks it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.access import has_secret, is_canary
from ensemble.front_door.door import Door
from ensemble.front_door.metrics import CANARY, CLIENT, GRPC
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.settings import Limits
from ensemble.front_door.upstream import SERVICE

PENDING = 8  # requests that gRPC holds before it asks for a handler, for each that may be under way
NO_SECRET = "this server asks for its secret; the request carries none, or another one"
NO_STREAMS = "streams are not served; send each request by itself, with ModelInfer"
NOT_SERVED = "clients cannot use that here; the server decides on its models, memory and settings"
Context = Any  # grpc.aio.ServicerContext
Headers = Iterable[tuple[str, str | bytes]]
Method = Callable[[Any], Awaitable[Message]]


class GrpcService(grpc.GenericRpcHandler):
    """
    Args:
        secret: what every request must carry, but those after the server's health.
        trusted: whether it is the supervisor that asks.
    """

    def __init__(self, door: Door, secret: str, trusted: bool = False):
        self.door, self.secret, self.trusted = door, secret, trusted
        self.handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer)}
        for name, (answer, is_open) in self._questions().items():
            request = getattr(service_pb2, f"{name}Request")
            self.handlers[name] = grpc.unary_unary_rpc_method_handler(self._guarded(request, answer, is_open))
        self.handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(_refuse_stream)
        self.other = grpc.unary_unary_rpc_method_handler(_refuse_method)

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = call.method.rpartition("/")
        if f"{service}/" != SERVICE:
            return None
        return self.handlers.get(method, self.other)

    def _questions(self) -> dict[str, tuple[Method, bool]]:
        """The methods about the server itself, and whether each is open to clients without the secret."""
        door = self.door

        async def live(_: Any) -> Message:
            return service_pb2.ServerLiveResponse(live=await door.live())

        async def ready(_: Any) -> Message:
            return service_pb2.ServerReadyResponse(ready=await door.ready())

        async def model_ready(asked: Any) -> Message:
            return service_pb2.ModelReadyResponse(ready=await door.model_ready(asked.name, asked.version))

        return {
            "ServerLive": (live, True),
            "ServerReady": (ready, True),
            "ModelReady": (model_ready, True),
            "ServerMetadata": (lambda _: door.server_metadata(), False),
            "ModelMetadata": (lambda asked: door.model_metadata(asked.name, asked.version), False),
            "ModelConfig": (lambda asked: door.model_config(asked.name, asked.version), False),
            "ModelStatistics": (lambda asked: door.statistics(asked.name, asked.version), False),
        }

    async def _infer(self, body: bytes, context: Context) -> bytes:
        """`ModelInfer`."""
        try:
            return await self._answered(body, context)
        except Refusal as refusal:
            code, sentence = refusal.code, refusal.sentence
        del body  # grpcio keeps this frame until it is collected, and a refused request may be large
        await context.abort(code, sentence)
        raise AssertionError("abort raises")

    async def _answered(self, body: bytes, context: Context) -> bytes:
        headers = context.invocation_metadata() or ()
        asker = CANARY if self.trusted or is_canary(headers) else CLIENT
        try:
            self._check_secret(headers)
            request = _parsed(service_pb2.ModelInferRequest, body)
        except Refusal as refusal:
            self.door.refused("", refusal.reason, asker, GRPC)
            raise
        answer = await self.door.infer(request, context.time_remaining(), asker, trusted=self.trusted)
        return bytes(answer.SerializeToString())

    def _check_secret(self, headers: Headers) -> None:
        if not has_secret(headers, self.secret):
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, NO_SECRET, "secret")

    def _guarded(
        self, kind: type[Message], answer: Method, is_open: bool
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def respond(body: bytes, context: Context) -> bytes:
            try:
                if not is_open:
                    self._check_secret(context.invocation_metadata() or ())
                return bytes((await answer(_parsed(kind, body))).SerializeToString())
            except Refusal as refusal:
                code, sentence = refusal.code, refusal.sentence
            del body  # as above
            await context.abort(code, sentence)
            raise AssertionError("abort raises")

        return respond


def _parsed(kind: type[Message], body: bytes) -> Message:
    """
    Raises:
        Refusal: it is not such a message.
    """
    try:
        return kind.FromString(body)
    except Exception:  # protobuf's error has another name in each of its implementations
        sentence = f"the request is not a {kind.DESCRIPTOR.name} in protobuf's format"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, sentence, "bytes") from None


async def _refuse_stream(_: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, NO_STREAMS)


async def _refuse_method(_: bytes, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, NOT_SERVED)


def grpc_server(
    service: GrpcService, limits: Limits, address: str, credentials: grpc.ServerCredentials | None, shared: bool
) -> tuple[grpc.aio.Server, int]:
    """A server that listens once it is started, and its port (0 for a unix socket).

    Args:
        address: `host:port`, or `unix:PATH`; port 0 asks for any that is free.
        shared: whether other processes may listen on the same port.

    Raises:
        RuntimeError: the address cannot be used.
    """
    options = [
        ("grpc.max_receive_message_length", limits.bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(shared)),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # a small message could become a huge one
        # While the event loop is busy for a moment, gRPC would reset what comes, good requests too (CANCELLED).
        ("grpc.server.max_pending_requests", PENDING * limits.requests),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING * limits.requests),
    ]
    # What waits in the schedule, and as many that are just being refused.
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * limits.requests)
    server.add_generic_rpc_handlers((service,))
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    return server, port
