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

ROWS_AT_ONCE = 8192  # of one call to Triton; a few milliseconds
TURN = 2048  # rows of one request in a call that others share
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
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.requests = self.rows = 0
        self.calls: dict[str, int] = {}
        self.queues: dict[str, dict[tuple[Any, ...], deque[Waiting]]] = {}

    def admit(self, request: Waiting, trusted: bool = False) -> None:
        """Puts a request in its queue.

        Args:
            trusted: whether it is admitted however much is under way.

        Raises:
            Refusal: too much is under way.
        """
        rows = max(1, request.checked.rows)
        if self.requests >= self.limits.requests and not trusted:
            raise _busy(f"{self.requests} requests are under way")
        if self.rows and self.rows + rows > self.limits.rows and not trusted:
            raise _busy(f"{self.rows} rows are under way")
        self.requests += 1
        self.rows += rows
        self._queue(request).append(request)

    def leave(self, request: Waiting) -> None:
        """Notes that a request was answered, or that nobody waits for it: what was not asked yet is not asked."""
        if not request.is_over:
            request.is_over = True
            self.requests -= 1
            self.rows -= max(1, request.checked.rows)

    def put_back(self, request: Waiting) -> None:
        """Has a request asked again from its first row, before those that wait."""
        queue = self._queue(request)
        if request in queue:
            queue.remove(request)
        request.ask_again()
        queue.appendleft(request)

    def take(self, model: str) -> list[Slice]:
        """What the next call to a model asks; nothing where enough calls are under way, or nothing waits."""
        queues = self.queues.get(model)
        if not queues:
            return []
        has_rows = next(iter(queues.values()))[0].signature.rows
        if self.calls.get(model, 0) >= (CALLS_WITH_ROWS if has_rows else CALLS_AT_ONCE):
            return []
        for key in list(queues):
            queue = queues.pop(key)
            found = list(self._from(queue))
            if queue:
                queues[key] = queue  # at the end: each kind of request has its turn
            if found:
                self.calls[model] = self.calls.get(model, 0) + 1
                return found
        return []

    def done(self, model: str) -> None:
        """Notes that a call has ended."""
        self.calls[model] -= 1

    def _queue(self, request: Waiting) -> deque[Waiting]:
        queues = self.queues.setdefault(request.signature.model, {})
        return queues.setdefault(request.key, deque())

    def _from(self, queue: deque[Waiting]) -> Iterator[Slice]:
        """Slices of one call; takes from the queue what has no rows left, or is over."""
        room, requests = ROWS_AT_ONCE, 0
        while queue and room > 0 and requests < TOGETHER:
            request = queue[0]
            if request.is_over:
                queue.popleft()
                continue
            if not request.signature.rows or request.failures:
                if not requests:
                    queue.popleft()
                    yield from self._alone(queue, request)
                return
            queue.popleft()
            rows = request.checked.rows - request.taken
            count = min(rows, room, room if not queue else TURN)
            yield Slice(request, request.taken, request.taken + count, request.attempt)
            request.taken += count
            room -= count
            requests += 1
            if count < rows:
                queue.append(request)
                if queue[0] is request:
                    return

    def _alone(self, queue: deque[Waiting], request: Waiting) -> Iterator[Slice]:
        rows = request.checked.rows
        count = min(rows - request.taken, ROWS_AT_ONCE) if request.signature.rows else rows
        yield Slice(request, request.taken, request.taken + count, request.attempt)
        request.taken += count
        if request.taken < rows:
            queue.append(request)


def _busy(found: str) -> Refusal:
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the server is busy: {found}; ask again later", "busy")
