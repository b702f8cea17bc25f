"""The calls to Triton. None is ever cancelled or given a deadline, as that can crash Triton 2.51."""

import asyncio
from collections.abc import Mapping

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.errors import TritonError
from ensemble.front_door.triton_http import TritonHttp

SERVICE = "/inference.GRPCInferenceService/"
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]
PAUSE = 0.1  # seconds between two looks at a server that is down


class Upstream:
    """A kept connection with Triton.

    Args:
        url: `host:port` of its gRPC.
        headers: what every request to it carries.
        http: `host:port` of its HTTP, which inference goes over where it is given: that is faster.
        http_headers: what every request to that carries.
    """

    def __init__(self, url: str, headers: Mapping[str, str], http: str = "", http_headers: Mapping[str, str] = {}):
        self.metadata = tuple(headers.items())
        self.http_headers = http_headers
        self.url = ""
        self.is_up = asyncio.Event()
        self.looking: asyncio.Task[None] | None = None
        self.http: TritonHttp | None = None
        self.move(url, http)

    def move(self, url: str, http: str = "") -> None:
        """Goes on with the Triton at another address."""
        if url == self.url:
            return
        self.url = url
        if self.http is not None:
            self.http.close()
        self.http = TritonHttp(http, self.http_headers) if http else None
        self.channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self.calls: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}
        self.is_up.set()

    async def infer(self, request: Message) -> Message:
        """The `ModelInferResponse` to a `ModelInferRequest`.

        Raises:
            TritonError: there is none.
        """
        return await (self.http.infer(request) if self.http else self.call("ModelInfer", request))

    async def call(self, method: str, request: Message) -> Message:
        """What Triton's gRPC answers.

        Raises:
            TritonError: it does not, or refuses.
        """
        call = self.calls.get(method)
        if call is None:
            answer = getattr(service_pb2, f"{method}Response")
            call = self.calls[method] = self.channel.unary_unary(
                SERVICE + method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
        try:
            return await call(request, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise TritonError(error.code(), " ".join((error.details() or "").split())) from None

    def lost(self) -> None:
        """Notes that Triton did not answer, and looks for it until it does."""
        self.is_up.clear()
        if self.looking is None or self.looking.done():
            self.looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            try:
                live = await self.call("ServerLive", service_pb2.ServerLiveRequest())
            except TritonError:
                continue
            if live.live:
                return self.is_up.set()

    async def close(self) -> None:
        """Ends the connection; nothing may be under way."""
        if self.looking is not None:
            self.looking.cancel()
        if self.http is not None:
            self.http.close()
        await self.channel.close()
