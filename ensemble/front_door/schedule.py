"""Which requests are answered next: bounded, in turns, large ones in slices and small ones together.

Nothing here waits or talks to Triton. Requests whose rows are independent of each other (`score`) and which differ in
nothing else are answered together; one with many rows is cut in slices, between which the others pass.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from ensemble.front_door.refusal import Refusal
from ensemble.front_door.settings import Limits
from ensemble.front_door.signature import Checked, Signature

ROWS_AT_ONCE = 4096  # of one call to Triton; a few milliseconds
FEW = 1024  # rows that go before the others, up to half of a call
TURN = 1024  # rows of one request in a call that others share
TOGETHER = 64  # requests in one call
CALLS_AT_ONCE = 2  # to one model: one that is answered, one that is ready when it has been
CALLS_WITH_ROWS = 1  # to a model whose requests are joined: while one call is answered, those that wait become the next


@dataclass(eq=False, slots=True)
class Waiting:
    """A request that is not answered yet.

    Attributes:
        signature, checked: what it asks, and of which model.
        version: of the model, that the client asked for; empty for the one that serves.
        taken: rows that were handed out.
        parts: outputs of the rows that were answered, by their first row; each the bytes of every output.
        served: the versions of the model that answered them.
        attempt: how often it was asked from its first row; what an earlier attempt brings is not used.
        failures: calls in which Triton ended, or broke; such a request is then asked alone.
        ends: those in which Triton ended; of such requests one at a time is asked, so that the cause is found.
        is_over: nobody waits for it any more.
        note: whatever its owner keeps with it.
    """

    signature: Signature
    checked: Checked
    version: str = ""
    taken: int = 0
    answered: int = 0
    parts: dict[int, Any] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    attempt: int = 0
    failures: int = 0
    ends: int = 0
    is_over: bool = False
    note: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Requests with equal keys may be answered together."""
        rows = self.signature.rows
        others = tuple((name, shape, raw) for name, _, shape, raw in self.checked.tensors if name not in rows)
        return self.version, self.checked.outputs, others

    def ask_again(self) -> None:
        """Forgets what was answered, so that all rows are asked once more."""
        self.attempt += 1
        self.taken = self.answered = 0
        self.parts.clear()
        self.served.clear()


class Queue:
    """Requests with equal keys.

    Attributes:
        short: those of few rows, in their order.
        long: the others, which take turns.
    """

    def __init__(self) -> None:
        self.short: deque[Waiting] = deque()
        self.long: deque[Waiting] = deque()

    def __bool__(self) -> bool:
        return bool(self.short or self.long)

    def of(self, request: Waiting) -> deque[Waiting]:
        """Where a request waits."""
        return self.short if request.checked.rows <= FEW else self.long

    def first(self) -> Waiting:
        return (self.short or self.long)[0]

    def take(self, may_end: bool) -> Iterator["Slice"]:
        """The slices of one call. Takes from the queue what has no rows left, or is over.

        Args:
            may_end: whether a request may be asked during which Triton has ended before.
        """
        for waiting in (self.short, self.long):
            while waiting and waiting[0].is_over:
                waiting.popleft()
        for waiting in (self.long, self.short):
            if waiting and (waiting[0].failures or not waiting[0].signature.rows):
                if may_end or not waiting[0].ends:
                    yield self._cut(waiting, ROWS_AT_ONCE)
                return
        yield from self._joined()

    def _joined(self) -> Iterator["Slice"]:
        """Requests of few rows get up to half of a call where others wait too."""
        room, requests = ROWS_AT_ONCE, 0
        share = 2 if self.long else 1
        for waiting, least, most in (
            (self.short, ROWS_AT_ONCE - ROWS_AT_ONCE // share, TOGETHER // share),
            (self.long, 0, TOGETHER),
        ):
            for _ in range(len(waiting)):
                if room <= least or requests >= most or waiting[0].failures:
                    break
                if waiting[0].is_over:
                    waiting.popleft()
                    continue
                is_alone = len(waiting) == 1
                found = self._cut(waiting, room if waiting is self.short or is_alone else min(room, TURN))
                room -= found.stop - found.start
                requests += 1
                yield found

    def _cut(self, waiting: deque[Waiting], most: int) -> "Slice":
        """At most so many rows of the first request, which then waits at the end for the rest of it."""
        request = waiting.popleft()
        start = request.taken
        rows = request.checked.rows
        request.taken = min(rows, start + most) if request.signature.rows else rows
        if request.taken < rows:
            waiting.append(request)
        return Slice(request, start, request.taken, request.attempt)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows `start` to `stop` of a request, in one of its attempts."""

    of: Waiting
    start: int
    stop: int
    attempt: int

    @property
    def is_wanted(self) -> bool:
        """Whether an answer is still of use."""
        return not self.of.is_over and self.attempt == self.of.attempt


class Schedule:
    """
    Attributes:
        requests, rows: that wait or are being answered.
        calls: to each model that are under way.
        suspect: a request that is being asked, and during which Triton has ended before.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.requests = self.rows = 0
        self.calls: dict[str, int] = {}
        self.suspect: Waiting | None = None
        self.queues: dict[str, dict[tuple[Any, ...], Queue]] = {}

    def admit(self, request: Waiting, trusted: bool = False, spare: int = 0) -> None:
        """Puts a request in its queue.

        Args:
            trusted: whether it is admitted however much is under way, and asked before all that wait: a server that is
                busy must not look as if it hung.
            spare: requests of one row that are admitted beyond the bounds.

        Raises:
            Refusal: too much is under way.
        """
        rows = max(1, request.checked.rows)
        has_spare = spare > 0 and rows == 1 and self.requests < self.limits.requests + spare
        admitted = trusted or has_spare
        if self.requests >= self.limits.requests and not admitted:
            raise _busy(f"{self.requests} requests are under way")
        if self.rows and self.rows + rows > self.limits.rows and not admitted:
            raise _busy(f"{self.rows} rows are under way")
        self.requests += 1
        self.rows += rows
        if trusted:
            self._go_first(request)
        else:
            self._queue(request).of(request).append(request)

    def _go_first(self, request: Waiting) -> None:
        self._queue(request).of(request).appendleft(request)
        queues = self.queues[request.signature.model]
        others = dict(queues)
        queues.clear()
        queues[request.key] = others.pop(request.key)
        queues.update(others)

    def leave(self, request: Waiting) -> None:
        """Notes that a request was answered, or that nobody waits for it: what was not asked yet is not asked."""
        if not request.is_over:
            request.is_over = True
            self.requests -= 1
            self.rows -= max(1, request.checked.rows)

    def put_back(self, request: Waiting) -> None:
        """Has a request asked again from its first row, before those that wait."""
        queue = self._queue(request).of(request)
        if request in queue:
            queue.remove(request)
        request.ask_again()
        queue.appendleft(request)

    def take(self, model: str) -> list[Slice]:
        """What the next call to a model asks; nothing where enough calls are under way, or nothing waits."""
        queues = self.queues.get(model)
        if not queues:
            return []
        has_rows = next(iter(queues.values())).first().signature.rows
        if self.calls.get(model, 0) >= (CALLS_WITH_ROWS if has_rows else CALLS_AT_ONCE):
            return []
        for key in list(queues):
            queue = queues.pop(key)
            found = list(queue.take(self.suspect is None))
            if queue:
                queues[key] = queue  # at the end: each kind of request has its turn
            if found:
                self.calls[model] = self.calls.get(model, 0) + 1
                if found[0].of.ends:
                    self.suspect = found[0].of
                return found
        return []

    def done(self, slices: list[Slice]) -> list[str]:
        """Notes that a call has ended.

        Returns:
            The models of which the next call may now be taken.
        """
        first = slices[0].of
        model = first.signature.model
        self.calls[model] -= 1
        if first is not self.suspect:
            return [model]
        self.suspect = None
        return list(self.queues)

    def _queue(self, request: Waiting) -> Queue:
        queues = self.queues.setdefault(request.signature.model, {})
        return queues.setdefault(request.key, Queue())


def _busy(found: str) -> Refusal:
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the server is busy: {found}; ask again later", "busy")
