"""Questions about the server itself, and the work that goes on when nobody waits for it any more."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.errors import ENDED, TritonError
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.upstream import Upstream

T = TypeVar("T")
SHORT = 5.0  # seconds that a question about the server itself may take
QUESTIONS = 16  # about the server itself, under way at once
MOST_SAID = 500  # characters of Triton's messages
UNKNOWN_MODEL = "Request for unknown model"  # as Triton says it, with varying status codes
EXTENSIONS = {"statistics", "model_configuration", "binary_tensor_data", "parameters"}


class Questions:
    """
    Args:
        upstream: the connection with Triton.

    Attributes:
        asking: questions about the server itself that Triton has not answered, also where nobody waits for them.
        tasks: what is under way.
    """

    def __init__(self, upstream: Upstream):
        self.upstream = upstream
        self.asking = 0
        self.tasks: set[asyncio.Future[Any]] = set()

    async def live(self) -> bool:
        """Whether the front door answers."""
        return True

    async def ready(self) -> bool:
        """Whether Triton answers."""
        if not self.upstream.is_up.is_set():
            return False
        try:
            answer = await self._about("ServerReady", service_pb2.ServerReadyRequest())
        except Refusal:
            return False
        return bool(answer.ready)

    async def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model can be asked; False for one that does not exist."""
        try:
            answer = await self._about("ModelReady", service_pb2.ModelReadyRequest(name=name, version=version))
        except Refusal:
            return False
        return bool(answer.ready)

    async def server_metadata(self) -> Message:
        """Triton's `ServerMetadataResponse`, less the extensions that the front door does not serve.

        Raises:
            Refusal: Triton does not answer.
        """
        found = await self._about("ServerMetadata", service_pb2.ServerMetadataRequest())
        served = [name for name in found.extensions if name in EXTENSIONS]
        del found.extensions[:]
        found.extensions.extend(served)
        return found

    async def model_metadata(self, name: str, version: str = "") -> Message:
        """Triton's `ModelMetadataResponse`.

        Raises:
            Refusal: there is no such model, or Triton does not answer.
        """
        return await self._about("ModelMetadata", service_pb2.ModelMetadataRequest(name=name, version=version))

    async def model_config(self, name: str, version: str = "") -> Message:
        """Triton's `ModelConfigResponse`.

        Raises:
            Refusal: there is no such model, or Triton does not answer.
        """
        return await self._about("ModelConfig", service_pb2.ModelConfigRequest(name=name, version=version))

    async def statistics(self, name: str = "", version: str = "") -> Message:
        """Triton's `ModelStatisticsResponse`, of all models where none is named.

        Raises:
            Refusal: there is no such model, or Triton does not answer.
        """
        return await self._about("ModelStatistics", service_pb2.ModelStatisticsRequest(name=name, version=version))

    async def _about(self, method: str, request: Message) -> Message:
        if self.asking >= QUESTIONS:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many questions about the server are under way", "busy"
            )
        self.asking += 1
        return await self._within(self._ask_counted(method, request), SHORT)

    async def _ask_counted(self, method: str, request: Message) -> Message:
        try:
            return await self._ask_about(method, request)
        finally:
            self.asking -= 1

    async def _ask_about(self, method: str, request: Message) -> Message:
        """One question, asked again while Triton is down."""
        while True:
            await self.upstream.is_up.wait()
            link = self.upstream.link
            try:
                return await link.call(method, request)
            except TritonError as error:
                said = error.said[:MOST_SAID]
                if UNKNOWN_MODEL in said:
                    raise Refusal(grpc.StatusCode.NOT_FOUND, said, "name") from None
                if error.code not in ENDED:
                    raise Refusal(error.code, said, "triton") from None
                self.upstream.lost(link)

    async def _within(self, work: Coroutine[Any, Any, T] | Awaitable[T], seconds: float) -> T:
        """Waits for work that goes on when the wait is cancelled, or is over."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._start(work)), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise too_late(seconds) from None
        except Refusal as refusal:
            # Its traceback has frames that have it: such cycles keep large requests until they are collected.
            raise refusal.with_traceback(None) from None

    def _start(self, work: Awaitable[T]) -> "asyncio.Future[T]":
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Future[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has got it, or nobody wants it

    async def close(self, seconds: float) -> None:
        """Waits for the calls that are under way, at most so long, and ends the connection with Triton."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)
        await self.upstream.close()


def too_late(seconds: float) -> Refusal:
    return Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, f"there was no answer within {seconds:g} s", "deadline")
