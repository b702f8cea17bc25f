"""The calls to Triton. None is ever cancelled or given a deadline, as that can crash Triton 2.51."""

import asyncio
from collections.abc import Mapping

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

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
        headers: what every request carries.
    """

    def __init__(self, url: str, headers: Mapping[str, str]):
        self.metadata = tuple(headers.items())
        self.url = ""
        self.is_up = asyncio.Event()
        self.looking: asyncio.Task[None] | None = None
        self.move(url)

    def move(self, url: str) -> None:
        """Goes on with the Triton at another address."""
        if url == self.url:
            return
        self.url = url
        self.channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self.calls: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}
        self.is_up.set()

    async def call(self, method: str, request: Message) -> Message:
        """What Triton answers.

        Raises:
            grpc.aio.AioRpcError: it does not, or refuses.
        """
        call = self.calls.get(method)
        if call is None:
            answer = getattr(service_pb2, f"{method}Response")
            call = self.calls[method] = self.channel.unary_unary(
                SERVICE + method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
        return await call(request, metadata=self.metadata)

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
            except grpc.aio.AioRpcError:
                continue
            if live.live:
                return self.is_up.set()

    async def close(self) -> None:
        """Ends the connection; nothing may be under way."""
        if self.looking is not None:
            self.looking.cancel()
        await self.channel.close()
