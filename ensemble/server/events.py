"""What a supervisor did, kept and reported."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that the supervisor did.

    Attributes:
        time: when it was done, in Unix seconds.
        what: in one line.
        seconds: from when it was noticed that there was something to do until it was done.
    """

    time: float
    what: str
    seconds: float


class EventLog:
    """
    Attributes:
        events: everything so far.
        report: called with each event's line.
    """

    def __init__(self, report: Callable[[str], Any]):
        self.events: list[Event] = []
        self.report = report

    def add(self, what: str, seconds: float = 0.0) -> None:
        """Keeps an event that has just happened, and reports it."""
        self.events.append(Event(time.time(), what, seconds))
        self.report(what)
