"""The front door's answers: whatever a client does, Triton gets requests that it can answer, and each is waited for."""

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.errors import TritonError
from ensemble.front_door.joining import WrongAnswerError, joined, parts, whole
from ensemble.front_door.metrics import CLIENT, GRPC, UNKNOWN, Metrics
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.schedule import Schedule, Slice, Waiting
from ensemble.front_door.settings import Limits
from ensemble.front_door.signature import TIMEOUT
from ensemble.front_door.signatures import Signatures
from ensemble.front_door.upstream import PAUSE, Upstream

T = TypeVar("T")
SHORT = 5.0  # seconds that a question about the server itself may take
QUESTIONS = 16  # about the server itself, under way at once
MOST_ENDS = 3  # calls for one request during which Triton ended; it may be the cause
MOST_FAILURES = 12  # other calls for it that failed
LONGEST_PAUSE = 1.0  # seconds
# What Triton says, with varying status codes, of a model that is being loaded or whose Python process has died.
NOT_LOADED = ("Request for unknown model", "is not ready", "no version is available")


@dataclass(slots=True)
class Owner:
    """Who waits for a request: the answer's future, since when, and the id that the client gave it."""

    future: "asyncio.Future[Message]"
    since: float
    identity: str
    was_asked: bool = False


class Door:
    """See `ensemble.front_door`. All methods are called in one event loop.

    Args:
        upstream: the connection with Triton.
        limits: what may be under way.
        metrics: what is counted.
    """

    def __init__(self, upstream: Upstream, limits: Limits, metrics: Metrics):
        self.upstream, self.limits, self.metrics = upstream, limits, metrics
        self.schedule = Schedule(limits)
        self.signatures = Signatures(self._ask_about)
        self.questions = asyncio.Semaphore(QUESTIONS)
        self.tasks: set[asyncio.Future[Any]] = set()
        self.paused: set[str] = set()

    # -- inference -----------------------------------------------------------------------------------------------------

    async def infer(
        self,
        request: Message,
        seconds: float | None = None,
        asker: str = CLIENT,
        *,
        protocol: str = GRPC,
        trusted: bool = False,
    ) -> Message:
        """The answer to a `ModelInferRequest`, a `ModelInferResponse`, counted.

        Cancelling it ends the wait only: what Triton has begun it finishes, what it has not begun is not asked.

        Args:
            seconds: how long the client waits; None for `limits.seconds`.
            asker, protocol: as the metrics say them.
            trusted: whether it is answered however much is under way, as the supervisor's questions are.

        Raises:
            Refusal: the request is not what the model takes, too much is under way, or there is no answer in time.
        """
        began = time.monotonic()
        model = request.model_name
        try:
            answer = await self._infer(request, seconds, trusted)
        except Refusal as refusal:
            self.refused(model, refusal.reason, asker, protocol)
            raise
        except asyncio.CancelledError:
            self.metrics.ended(self._label(model), protocol, "cancelled", asker, 0.0)
            raise
        self.metrics.ended(model, protocol, "answered", asker, time.monotonic() - began)
        return answer

    def refused(self, model: str, reason: str, asker: str, protocol: str) -> None:
        """Counts a request that was refused, here or before it came here."""
        self.metrics.refused(self._label(model), protocol, reason, asker)

    def _label(self, model: str) -> str:
        """A model's name in the metrics: no client can make new ones."""
        return model if model in self.signatures.known else UNKNOWN

    async def _infer(self, request: Message, seconds: float | None, trusted: bool) -> Message:
        since = time.monotonic()
        wait = self._wait(request, seconds)
        asked = request.model_name, request.model_version
        signature = self.signatures.at_hand(*asked)
        if signature is None:
            signature = await self._within(self.signatures.find(*asked), wait)
        loop = asyncio.get_running_loop()
        waiting = Waiting(signature, signature.check(request), request.model_version)
        waiting.note = owner = Owner(loop.create_future(), since, request.id)
        self.schedule.admit(waiting, trusted)
        timer = loop.call_later(max(0.0, since + wait - time.monotonic()), _expire, owner, wait)
        try:
            self._pump(signature.model)
            return await owner.future
        finally:
            timer.cancel()
            self.schedule.leave(waiting)

    def _wait(self, request: Message, seconds: float | None) -> float:
        """Seconds that a request may take: what its client and its parameter say, and the limit."""
        wait = self.limits.seconds if seconds is None else seconds
        if request.parameters and TIMEOUT in request.parameters:
            microseconds = request.parameters[TIMEOUT].int64_param
            if microseconds > 0:
                wait = min(wait, microseconds / 1e6)
        return wait

    def _pump(self, model: str) -> None:
        """Asks Triton what may be asked now."""
        if model in self.paused or not self.upstream.is_up.is_set():
            return
        while slices := self.schedule.take(model):
            now = time.monotonic()
            for one in slices:
                owner = one.of.note
                if not owner.was_asked:
                    owner.was_asked = True
                    self.metrics.queue_seconds.labels(model).observe(now - owner.since)
            self._start(self._ask(model, slices))

    async def _ask(self, model: str, slices: list[Slice]) -> None:
        """One call to Triton, and what becomes of it."""
        began = time.monotonic()
        try:
            answer = await self.upstream.infer(joined(slices))
            for one, part in zip(slices, parts(slices, answer)):
                if one.is_wanted:
                    self._add(one, part, answer)
        except TritonError as error:
            self._failed(model, slices, error)
        except Exception as error:  # whatever it is, no client waits in vain
            refusal = Refusal(grpc.StatusCode.INTERNAL, f"{model} gave no answer that can be read: {error}", "triton")
            if not isinstance(error, WrongAnswerError):
                asyncio.get_running_loop().call_exception_handler({"message": "a call failed", "exception": error})
            for one in slices:
                _refuse(one.of, refusal)
        finally:
            self.metrics.triton_seconds.labels(model).observe(time.monotonic() - began)
            self.schedule.done(model)
            self._pump(model)

    def _add(self, one: Slice, part: tuple[bytes, ...], answer: Message) -> None:
        """Keeps the answer to a slice, and gives the request's owner the whole once it is there."""
        request = one.of
        request.parts[one.start] = part
        request.answered += one.stop - one.start
        request.served.add(answer.model_version)
        if request.answered < request.checked.rows:
            return
        if len(request.served) > 1:  # another release was switched to between two slices
            return self.schedule.put_back(request)
        owner = request.note
        if not owner.future.done():
            owner.future.set_result(whole(request, answer, owner.identity))
        return None

    def _failed(self, model: str, slices: list[Slice], error: TritonError) -> None:
        """Asks again what Triton could not answer; what it refused is refused."""
        code, said = error.code, error.said
        loading = any(words in said for words in NOT_LOADED)
        ended = code == grpc.StatusCode.UNAVAILABLE and not loading
        if not loading and not ended and code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            for one in slices:
                _refuse(one.of, Refusal(code, said, "triton"))
            return
        if ended:
            self.upstream.lost()
        for one in slices:
            request = one.of
            if one.is_wanted:
                request.failures += not loading
                if request.failures > (MOST_ENDS if ended else MOST_FAILURES):
                    _refuse(request, Refusal(code, said, "triton"))
                else:
                    self.schedule.put_back(request)
        if model not in self.paused:
            failures = max(one.of.failures for one in slices)
            self.paused.add(model)
            self._start(self._resume(model, min(LONGEST_PAUSE, PAUSE * 2 ** max(0, failures - 1))))

    async def _resume(self, model: str, pause: float) -> None:
        await asyncio.sleep(pause)
        await self.upstream.is_up.wait()
        self.paused.discard(model)
        self._pump(model)

    # -- questions about the server ------------------------------------------------------------------------------------

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
        if self.questions.locked():
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many questions about the server are under way", "busy"
            )
        async with self.questions:
            return await self._within(self._ask_about(method, request), SHORT)

    async def _ask_about(self, method: str, request: Message) -> Message:
        """One question, asked again while Triton is down."""
        while True:
            await self.upstream.is_up.wait()
            try:
                return await self.upstream.call(method, request)
            except TritonError as error:
                if "Request for unknown model" in error.said:
                    raise Refusal(grpc.StatusCode.NOT_FOUND, error.said, "name") from None
                if error.code != grpc.StatusCode.UNAVAILABLE:
                    raise Refusal(error.code, error.said, "triton") from None
                self.upstream.lost()

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def _within(self, work: Coroutine[Any, Any, T] | Awaitable[T], seconds: float) -> T:
        """Waits for work that goes on when the wait is cancelled, or is over."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._start(work)), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise _too_late(seconds) from None

    def _start(self, work: Awaitable[T]) -> "asyncio.Future[T]":
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Future[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has got it, or nobody wants it

    def count_waiting(self) -> None:
        """Brings the gauges up to date."""
        self.metrics.waiting_requests.set(self.schedule.requests)
        self.metrics.waiting_rows.set(self.schedule.rows)

    async def close(self, seconds: float) -> None:
        """Waits for the calls that are under way, at most so long, and ends the connection with Triton."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)
        await self.upstream.close()


EXTENSIONS = {"statistics", "model_configuration", "binary_tensor_data", "parameters"}


def _expire(owner: Owner, seconds: float) -> None:
    if not owner.future.done():
        owner.future.set_exception(_too_late(seconds))


def _too_late(seconds: float) -> Refusal:
    return Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, f"there was no answer within {seconds:g} s", "deadline")


def _refuse(request: Waiting, refusal: Refusal) -> None:
    if not request.note.future.done():
        request.note.future.set_exception(refusal)
