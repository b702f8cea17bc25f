"""The front door's answers: whatever a client does, Triton gets requests that it can answer, and each is waited for."""

import asyncio
import time
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message

from ensemble.front_door.errors import ENDED, TritonError
from ensemble.front_door.joining import WrongAnswerError, joined, parts, whole
from ensemble.front_door.metrics import CANARY, CLIENT, GRPC, UNKNOWN, Metrics
from ensemble.front_door.questions import MOST_SAID, UNKNOWN_MODEL, Questions, too_late
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.schedule import Schedule, Slice, Waiting
from ensemble.front_door.settings import Limits
from ensemble.front_door.signature import TIMEOUT
from ensemble.front_door.signatures import Signatures
from ensemble.front_door.upstream import PAUSE, Link, Upstream

MOST_ENDS = 3  # calls for one request during which Triton ended; it may be the cause
MOST_BREAKS = 40  # those that found the model's Python process dead: as many seconds, after the first few
MOST_FAULTS = 2  # other failures of the model
LONGEST_PAUSE = 1.0  # seconds
SPARE = 16  # requests that only ask for health are answered beyond the bound
AT_ONCE = 0.02  # seconds
# What Triton says, with varying status codes, of a model that is being loaded, and of one whose process has died.
NOT_LOADED = (UNKNOWN_MODEL, "is not ready", "no version is available")
BROKEN = "is not healthy"
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@dataclass(slots=True)
class Owner:
    """Who waits for a request: the answer's future, since when, and the id that the client gave it."""

    future: "asyncio.Future[Message]"
    since: float
    identity: str
    was_asked: bool = False


class Door(Questions):
    """See `ensemble.front_door`. All methods are called in one event loop.

    Args:
        upstream: the connection with Triton.
        limits: what may be under way.
        metrics: what is counted.
    """

    def __init__(self, upstream: Upstream, limits: Limits, metrics: Metrics):
        super().__init__(upstream)
        self.limits, self.metrics = limits, metrics
        self.schedule = Schedule(limits)
        self.signatures = Signatures(self._ask_about)
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
            answer = await self._infer(request, seconds, asker, trusted)
        except Refusal as refusal:
            self.refused(model, refusal.reason, asker, protocol)
            raise
        except asyncio.CancelledError:
            # gRPC cancels what is past its deadline a moment before it is found to be late here.
            is_late = seconds is not None and time.monotonic() - began > seconds - AT_ONCE
            self.metrics.ended(self._label(model), protocol, "expired" if is_late else "cancelled", asker, 0.0)
            raise
        self.metrics.ended(model, protocol, "answered", asker, time.monotonic() - began)
        return answer

    def refused(self, model: str, reason: str, asker: str, protocol: str) -> None:
        """Counts a request that was refused, here or before it came here."""
        self.metrics.refused(self._label(model), protocol, reason, asker)

    def _label(self, model: str) -> str:
        """A model's name in the metrics: no client can make new ones."""
        return model if model in self.signatures.known else UNKNOWN

    async def _infer(self, request: Message, seconds: float | None, asker: str, trusted: bool) -> Message:
        since = time.monotonic()
        wait = self._wait(request, seconds)
        asked = request.model_name, request.model_version
        signature = self.signatures.at_hand(*asked)
        if signature is None:
            signature = await self._within(self.signatures.find(*asked), wait)
        loop = asyncio.get_running_loop()
        waiting = Waiting(signature, signature.check(request), request.model_version)
        waiting.note = owner = Owner(loop.create_future(), since, request.id)
        self.schedule.admit(waiting, trusted, SPARE if asker == CANARY else 0)
        timer = loop.call_later(max(0.0, since + wait - time.monotonic()), _expire, owner, wait)
        try:
            self._pump(signature.model)
            return await owner.future
        finally:
            timer.cancel()
            self.schedule.leave(waiting)
            # Else an error in the future keeps this frame, and that the future: a cycle with the request.
            del owner, waiting

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
        link = self.upstream.link
        try:
            answer = await link.infer(joined(slices))
            for one, part in zip(slices, parts(slices, answer)):
                if one.is_wanted:
                    self._add(one, part, answer)
        except TritonError as error:
            self._failed(link, model, slices, error)
        except Exception as error:  # whatever it is, no client waits in vain
            sentence = f"{model} gave no answer that can be read: {error}"
            refusal = Refusal(grpc.StatusCode.INTERNAL, sentence, "unavailable")
            if not isinstance(error, WrongAnswerError):
                asyncio.get_running_loop().call_exception_handler({"message": "a call failed", "exception": error})
            for one in slices:
                _refuse(one.of, refusal)
        finally:
            self.metrics.triton_seconds.labels(model).observe(time.monotonic() - began)
            for other in self.schedule.done(slices):
                self._pump(other)

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

    def _failed(self, link: Link, model: str, slices: list[Slice], error: TritonError) -> None:
        """Asks again what Triton could not answer; what it refused is refused."""
        said = error.said[:MOST_SAID]
        is_loading = any(words in said for words in NOT_LOADED)
        is_broken = BROKEN in said
        has_ended = error.code in ENDED and not is_loading and not is_broken
        if not is_loading and not is_broken and not has_ended:
            return self._refused(slices, error.code, said)
        if is_loading and slices[0].of.version:
            self._start(self._check_version(model, slices))
            return None
        if has_ended:
            self.upstream.lost(link)
        for one in slices:
            request = one.of
            if one.is_wanted:
                request.failures += not is_loading
                request.ends += has_ended
                if request.ends > MOST_ENDS or request.failures > MOST_BREAKS:
                    _refuse(request, Refusal(error.code, said, "unavailable"))
                else:
                    self.schedule.put_back(request)
        self._pause(model, max(one.of.failures for one in slices))
        return None

    def _refused(self, slices: list[Slice], code: grpc.StatusCode, said: str) -> None:
        """Refuses what Triton refused. Any of those that were asked together may be the cause: each is asked alone."""
        is_fault = code in FAULTS
        is_joined = any(one.of is not slices[0].of for one in slices)
        for one in slices:
            request = one.of
            if one.is_wanted:
                request.failures += 1
                if is_joined or (is_fault and request.failures <= MOST_FAULTS):
                    self.schedule.put_back(request)
                else:
                    _refuse(request, Refusal(code, said, "unavailable" if is_fault else "triton"))

    async def _check_version(self, model: str, slices: list[Slice]) -> None:
        """Refuses requests for a version that is not served any more; else it is just being loaded, and they wait."""
        await asyncio.sleep(PAUSE)
        refusal = None
        try:
            await self.signatures.check_version(model, slices[0].of.version)
        except Refusal as found:
            refusal = found if found.reason == "name" else None
        for one in slices:
            if one.is_wanted and refusal:
                _refuse(one.of, refusal)
            elif one.is_wanted:
                self.schedule.put_back(one.of)
        self._pump(model)

    def _pause(self, model: str, failures: int) -> None:
        if model not in self.paused:
            self.paused.add(model)
            self._start(self._resume(model, min(LONGEST_PAUSE, PAUSE * 2 ** min(10, max(0, failures - 1)))))

    async def _resume(self, model: str, pause: float) -> None:
        await asyncio.sleep(pause)
        await self.upstream.is_up.wait()
        self.paused.discard(model)
        self._pump(model)

    def count_waiting(self) -> None:
        """Brings the gauges up to date."""
        self.metrics.waiting_requests.set(self.schedule.requests)
        self.metrics.waiting_rows.set(self.schedule.rows)


def _expire(owner: Owner, seconds: float) -> None:
    if not owner.future.done():
        owner.future.set_exception(too_late(seconds))


def _refuse(request: Waiting, refusal: Refusal) -> None:
    if not request.note.future.done():
        request.note.future.set_exception(refusal)
