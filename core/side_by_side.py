"""Calls side by side, each in a process of its own, which ends with this one, however that ends."""

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from core.descent import end_with
from core.errors import UserError
from core.resources import peak_mb

SAID, DONE, FAILED = "said", "done", "failed"  # what a process sends


def nothing() -> None:
    """Does nothing."""


class RemoteError(Exception):
    """An exception in another process: its traceback as text."""


@dataclass
class _Process:
    """One that works, and which call it is at."""

    process: BaseProcess
    call: int


@dataclass(frozen=True)
class Results:
    """What calls gave.

    Attributes:
        values: in the order of the calls.
        peak_mb: the most memory that the processes held, added.
    """

    values: list[Any]
    peak_mb: float


def side_by_side(
    function: Callable[..., Any],
    calls: Sequence[tuple],
    processes: int,
    heard: Callable[..., None],
    *,
    first: Callable[[], None] = nothing,
) -> Results:
    """`function(*call, say)` for each call, in fresh processes; each takes the next call when it is done with one.

    Args:
        function: of a module that a fresh process can import.
        processes: how many at once.
        heard: called here with the number of a call, and with what the function gave to `say`.
        first: called at the start of each process; of a module, too.

    Raises:
        UserError: a process was ended, by the kernel for instance, as memory ran out.
        Exception: what a function raised; the other calls are ended.
    """
    context = get_context("spawn")  # a fork would copy the state of libraries whose threads it does not copy
    waiting = list(range(len(calls)))[::-1]
    values: list[Any] = [None] * len(calls)
    peaks: dict[Connection, float] = {}
    working: dict[Connection, _Process] = {}

    def start() -> None:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(function, first, there, os.getpid()), daemon=True)
        process.start()
        there.close()
        working[here] = _Process(process, waiting.pop())
        here.send(calls[working[here].call])

    def hear(pipe: Any) -> None:
        one = working[pipe]
        try:
            kind, value = pipe.recv()
        except (EOFError, ConnectionResetError):
            one.process.join()
            raise UserError(
                f"a process that worked beside others was ended (exit code {one.process.exitcode}); where memory ran "
                "out, run again with --threads 1, which does one thing after the other"
            ) from None
        if kind == SAID:
            heard(one.call, *value)
        elif kind == FAILED:
            raise value
        else:
            values[one.call], peaks[pipe] = value
            if waiting:
                one.call = waiting.pop()
                pipe.send(calls[one.call])
            else:
                _end(working.pop(pipe), pipe)

    try:
        for _ in range(min(processes, len(calls))):
            start()
        while working:
            for pipe in wait(list(working)):
                hear(pipe)
    finally:
        for pipe, one in working.items():
            one.process.kill()
            _end(one, pipe)
    return Results(values, sum(peaks.values()))


def _end(one: _Process, pipe: Connection) -> None:
    pipe.close()  # which a process that waits takes for its end
    one.process.join()


def _work(function: Callable[..., Any], first: Callable[[], None], pipe: Connection, parent: int) -> None:
    """A process: does what it is sent, until nothing more comes."""
    end_with(parent, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    first()
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            value = function(*call, lambda *said: pipe.send((SAID, said)))
        except Exception as error:
            pipe.send((FAILED, _sendable(error)))
        else:
            pipe.send((DONE, (value, peak_mb())))


def _sendable(error: Exception) -> Exception:
    """What this program or the system says of itself; anything else may not be made again from what is sent."""
    if isinstance(error, (UserError, OSError)):
        return error
    return RemoteError("".join(traceback.format_exception(error)))
