"""A door and a small Triton in one event loop, and the checks that each scene with them ends with."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import pytest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from ensemble.front_door.door import Door
from ensemble.front_door.metrics import Metrics
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.settings import Limits
from ensemble.front_door.upstream import Upstream
from tests.ensemble.front_door.models import score_request
from tests.ensemble.front_door.small_triton import SmallTriton

HANG_SECONDS = 60.0
USUAL = Limits()


@dataclass
class Both:
    """A door, and the Triton behind it."""

    door: Door
    triton: SmallTriton
    metrics: Metrics

    async def score(self, users: list[int], seconds: float | None = None, **asked: str) -> np.ndarray:
        return scores(await self.door.infer(score_request(users, **asked), seconds))

    def later(self, work: Awaitable) -> asyncio.Task:
        return asyncio.ensure_future(work)

    async def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "waits in vain"
            await asyncio.sleep(0.005)


def scores(answer: Message) -> np.ndarray:
    place = [one.name for one in answer.outputs].index("score")
    return np.frombuffer(answer.raw_output_contents[place], np.float32)


def expected(users: list[int]) -> np.ndarray:
    return (np.array(users) / 1000).astype(np.float32)


def beside_triton(scene: Callable[[Both], Awaitable[None]], limits: Limits = USUAL) -> None:
    """Runs a scene; then nothing may be left of it, no call may have been cancelled, and the log has no complaint."""
    complaints: list[dict] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: complaints.append(found))
        triton = SmallTriton()
        await triton.start()
        metrics = Metrics(CollectorRegistry())
        door = Door(Upstream(triton.url, {"secret": "s"}), limits, metrics)
        both = Both(door, triton, metrics)
        try:
            await asyncio.wait_for(scene(both), HANG_SECONDS)
            triton.gate.set()
            triton.talks.set()
            await both.until(lambda: not door.tasks)
            assert (door.schedule.requests, door.schedule.rows) == (0, 0)
            assert set(door.schedule.calls.values()) <= {0}
            assert door.schedule.suspect is None
            assert not door.paused
            assert not door.asking
        finally:
            await door.close(1.0)
            cancelled = triton.cancelled
            await triton.end()
        assert not cancelled
        gc.collect()
        await asyncio.sleep(0)

    gc.freeze()  # what the scene leaves is looked for, not what the tests before it have
    try:
        asyncio.run(run())
        gc.collect()
    finally:
        gc.unfreeze()
    assert not complaints


def refusal_of(task: asyncio.Task) -> Refusal:
    found = task.exception()
    assert isinstance(found, Refusal), found
    assert "\n" not in found.sentence
    return found


async def refused(work: Awaitable) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await work
    return raised.value
