"""The calls to Triton. None is ever cancelled or given a deadline, as that can crash Triton 2.51."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

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


class Link:
    """Kept connections with one Triton.

    Args:
        url: `host:port` of its gRPC.
        metadata: what every request to it carries.
        http: `host:port` of its HTTP; empty for inference over gRPC.
        http_headers: what every request to that carries.
    """

    def __init__(self, url: str, metadata: tuple[tuple[str, str], ...], http: str, http_headers: Mapping[str, str]):
        self.metadata = metadata
        self.http = TritonHttp(http, http_headers) if http else None
        self.channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self.methods: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}
        self.under_way = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def infer(self, request: Message) -> Message:
        """The `ModelInferResponse` to a `ModelInferRequest`.

        Raises:
            TritonError: there is none.
        """
        if self.http is None:
            return await self.call("ModelInfer", request)
        with self._counted():
            return await self.http.infer(request)

    async def call(self, method: str, request: Message) -> Message:
        """What Triton's gRPC answers.

        Raises:
            TritonError: it does not, or refuses.
        """
        call = self.methods.get(method)
        if call is None:
            answer = getattr(service_pb2, f"{method}Response")
            call = self.methods[method] = self.channel.unary_unary(
                SERVICE + method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
        with self._counted():
            try:
                return await call(request, metadata=self.metadata)
            except grpc.aio.AioRpcError as error:
                raise TritonError(error.code(), " ".join((error.details() or "").split())) from None

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.under_way += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self.idle.set()

    async def close(self) -> None:
        """Ends the connections; cancels what is under way."""
        if self.http is not None:
            self.http.close()
        await self.channel.close()

    async def close_when_idle(self) -> None:
        """Ends the connections once nothing is under way: the Triton may still answer, and must not be cancelled."""
        await self.idle.wait()
        await self.close()


class Upstream:
    """The Triton that is asked at the moment.

    Args:
        url: `host:port` of its gRPC.
        headers: what every request to it carries.
        http: `host:port` of its HTTP, which inference goes over where it is given: that is faster.
        http_headers: what every request to that carries.

    Attributes:
        link: the connections with it.
        is_up: whether it answered, as far as is known.
    """

    def __init__(self, url: str, headers: Mapping[str, str], http: str = "", http_headers: Mapping[str, str] = {}):
        self.metadata = tuple(headers.items())
        self.http_headers = http_headers
        self.is_up = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.looking: Link | None = None
        self.addresses = url, http
        self.link = self._linked(url, http)

    def move(self, url: str, http: str = "") -> None:
        """Goes on with the Triton at another address. What the one before is answering, it may answer."""
        if (url, http) == self.addresses:
            return
        link = self._linked(url, http)
        self._start(self.link.close_when_idle())
        self.addresses, self.link = (url, http), link

    def _linked(self, url: str, http: str) -> Link:
        link = Link(url, self.metadata, http, self.http_headers)
        self.is_up.set()
        return link

    def lost(self, link: Link) -> None:
        """Notes that a Triton did not answer; looks for it until it does, unless there is another one by now."""
        if link is not self.link:
            return
        self.is_up.clear()
        if self.looking is not link:
            self.looking = link
            self._start(self._look(link))

    async def _look(self, link: Link) -> None:
        await asyncio.sleep(PAUSE)
        while link is self.link:
            with contextlib.suppress(TritonError):
                live = await link.call("ServerLive", service_pb2.ServerLiveRequest())
                if live.live and link is self.link:
                    self.looking = None
                    return self.is_up.set()
            await asyncio.sleep(PAUSE)
        return None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Ends the connections; nothing may be under way."""
        for task in self.tasks:
            task.cancel()
        await self.link.close()
