"""Finds what is wrong with a running server's models, and reloads them."""

import contextlib
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from core.errors import UserError
from ensemble import client
from ensemble.client import NoServerError, TimedOutError
from ensemble.repository import releases
from ensemble.server.canary import Canary
from ensemble.server.process import Server, exit_code
from ensemble.server.shared_memory import SHARED_MEMORY

# The front door has Triton at work on little at a time, so a model that is only busy answers sooner.
CANARY_SECONDS = 2.0
STATISTICS_SECONDS = 1.0
MISSES_IN_A_ROW = 3
FOR_EVER = 1e6  # seconds; a deadline that expires can crash Triton 2.51, so none does
RELOAD_SECONDS = 20.0
SILENT = "Triton does not answer"
DIED = "its Python process died"
T = TypeVar("T")


class Health:
    """What is known of a server's models from one look to the next.

    Attributes:
        misses: canaries in a row without an answer, by model.
        completed: requests that a model had completed at its last miss, by model; None where Triton did not say.
        stubs: each model's Python process.
        shared: the name of the memory that each stub shares with the server.
        calls: what was asked and is not answered yet, by what and of which model.
    """

    def __init__(self) -> None:
        self.misses: dict[str, int] = {}
        self.completed: dict[str, int | None] = {}
        self.stubs: dict[str, psutil.Process] = {}
        self.shared: dict[str, str] = {}
        self.calls: dict[tuple[str, str], Future] = {}
        self.looks = ThreadPoolExecutor(16, "look")
        self.askers = ThreadPoolExecutor(32, "canary")

    def close(self) -> None:
        """Waits for the canaries that are still out; the server must have been stopped."""
        self.looks.shutdown()
        self.askers.shutdown()

    def forget(self) -> None:
        """Starts from scratch, with another server."""
        self.misses.clear()
        self.completed.clear()
        self.calls.clear()

    def troubles(self, server: Server, canary: Canary, models: Collection[str]) -> dict[str, str]:
        """What is wrong with each of several models, asked at the same time; empty where nothing has to be done."""
        found = self.looks.map(lambda model: self.trouble(server, canary, model), models)
        return dict(zip(models, found))

    def trouble(self, server: Server, canary: Canary, model: str) -> str:
        """What is wrong with a model; empty where it answers, or may still do so."""
        if not self.is_alive(server, canary, model):
            return DIED
        try:
            self._ask(server, canary, model)
        except (TimedOutError, NoServerError) as error:
            return self._missed(server, model, error)
        except UserError as error:
            if not self.is_alive(server, canary, model):
                return DIED
            with contextlib.suppress(UserError):  # asked again, as a single error means little
                self._ask(server, canary, model)
                return ""
            return str(error).rstrip(".")
        self.misses[model] = 0
        return ""

    def is_alive(self, server: Server, canary: Canary, model: str) -> bool:
        """Whether a model's Python process exists, hung or not; always, where it has none of its own."""
        with contextlib.suppress(KeyError, psutil.NoSuchProcess):
            if self.stubs[model].is_running() and self.stubs[model].status() != psutil.STATUS_ZOMBIE:
                return True
        if not canary.has_process(model):
            return True
        found = server.stubs(model)  # looks at every process of the machine, so it is not called each time
        if found:
            self.stubs[model] = found[-1]
            with contextlib.suppress(psutil.Error, IndexError):
                self.shared[model] = found[-1].cmdline()[2]
        return bool(found)

    def reload(self, server: Server, canary: Canary, model: str, served: Path) -> bool:
        """Has Triton load a model again, and waits for an answer.

        Args:
            served: the folder that the server serves.

        Returns:
            Whether the model answers, within `RELOAD_SECONDS`.

        Raises:
            OSError: the folder was emptied, or cannot be written.
        """
        for stub in server.stubs(model):
            with contextlib.suppress(psutil.NoSuchProcess):
                stub.kill()  # a hung one would stay
        releases.touch(served, model, canary.release.version)
        if model in self.shared:
            # Triton leaves the memory of a dead stub behind.
            (SHARED_MEMORY / self.shared.pop(model)).unlink(missing_ok=True)
        self.misses[model] = 0
        deadline = time.monotonic() + RELOAD_SECONDS
        while time.monotonic() < deadline and exit_code(server.process) is None:
            try:
                if not self.is_alive(server, canary, model):
                    raise UserError(DIED)
                self._ask(server, canary, model)
            except UserError:
                time.sleep(0.1)
            else:
                return True
        return False

    def _ask(self, server: Server, canary: Canary, model: str) -> None:
        """One question to a model, or the wait for the answer to the one before, for `CANARY_SECONDS`."""
        self._within(CANARY_SECONDS, "canary", model, lambda: canary.ask(server.url, server.access, model, FOR_EVER))

    def _within(self, seconds: float, what: str, model: str, ask: Callable[[], T]) -> T:
        """What `ask` returns, waited for so long. It goes on after that, and is waited for at the next call.

        Raises:
            TimedOutError: there is no answer yet.
        """
        key = what, model
        call: Future[T] = self.calls.get(key) or self.askers.submit(ask)
        self.calls[key] = call
        try:
            call.exception(seconds)
        except NotYet:
            raise TimedOutError(f"it did not answer within {seconds:g} s") from None
        self.calls.pop(key, None)
        return call.result()

    def _missed(self, server: Server, model: str, error: UserError) -> str:
        """What is wrong with a model that did not answer: nothing yet, where it is busy or has missed few canaries."""
        completed = None
        with contextlib.suppress(TimedOutError):
            count = partial(completed_requests, server, model)
            completed = self._within(STATISTICS_SECONDS, "statistics", model, count)
        is_busy = completed is not None and completed != self.completed.get(model)
        self.misses[model] = 1 if is_busy else self.misses.get(model, 0) + 1
        self.completed[model] = completed
        if self.misses[model] < MISSES_IN_A_ROW:
            return ""
        return SILENT if completed is None else f"{error}, {MISSES_IN_A_ROW} times in a row"


def completed_requests(server: Server, model: str) -> int | None:
    """How many requests a model has completed: where that grows, it is busy, not hung. None if Triton is silent."""
    headers = server.access.headers
    try:
        with client.connection(server.url, server.access, FOR_EVER) as triton:
            found = triton.get_inference_statistics(model, headers=headers, client_timeout=FOR_EVER)
    except UserError:
        return None
    return sum(one.inference_stats.success.count + one.inference_stats.fail.count for one in found.model_stats)
