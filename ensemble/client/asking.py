"""What `Client` and `AsyncClient` share: whom they ask, how long, and when they ask again."""

import os
import random
import time
from dataclasses import KW_ONLY, dataclass, field

from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import arguments
from ensemble.client.access import Access
from ensemble.client.errors import (
    AwayError,
    BusyError,
    NoServerError,
    NoTlsError,
    NotServedError,
    TimedOutError,
    user_error,
)

TIMEOUT = 30.0  # seconds
SERVE = "python -m marquee serve"
FIRST_PAUSE = 0.05  # seconds before a question is asked again; doubled each time
LONGEST_PAUSE = 1.0
SILENT = (NoServerError, NotServedError, TimedOutError)  # errors that do not show that a server of Marquee's is there
LEAST_LEFT = 0.05  # seconds; with less, a question is not asked again


@dataclass
class Asking:
    """Whom a client asks.

    Attributes:
        url: `host:port` of the server's gRPC.
        timeout: seconds that a question may take where it does not say, all requests and pauses together.
        wait: seconds that a server is waited for that has not answered this client yet.
        command: the command line that starts a server, for the message.
        has_answered: whether the server has. From then on, one that is not there is taken for one that restarts.
        process: that this was made in.
        is_closed: whether the connection is.
    """

    url: str
    _: KW_ONLY
    access: Access
    timeout: float
    wait: float
    command: str
    has_answered: bool = False
    is_closed: bool = False
    process: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: one of them is not what it must be.
        """
        self.url, self.timeout = arguments.address(self.url), arguments.seconds(self.timeout)
        self.wait = arguments.seconds(self.wait, "wait", may_be_zero=True)
        if not isinstance(self.access, Access):
            raise UserError(f"access is {self.access!r:.60}; it must be an Access")

    def check(self) -> None:
        """
        Raises:
            UserError: the connection is closed, or belongs to another process.
        """
        if self.is_closed:
            raise UserError("this client is closed; make another one")
        if self.process != os.getpid():
            raise UserError("this client was made before a fork; make one in each process")


class Attempts:
    """One question, asked until it is answered, refused, or its time is over."""

    def __init__(self, asking: Asking, timeout: float | None):
        """
        Raises:
            UserError: the client is closed, or `timeout` is not a number of seconds.
        """
        asking.check()
        self.asking = asking
        self.timeout = asking.timeout if timeout is None else arguments.seconds(timeout)
        self.began = time.monotonic()
        self.pause = FIRST_PAUSE

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimedOutError: none are.
        """
        seconds = self.began + self.timeout - time.monotonic()
        if seconds <= 0:
            raise TimedOutError(f"Triton at {self.asking.url} did not answer within {self.timeout:g} s")
        return seconds

    def answered(self) -> None:
        """Notes an answer; the next request of this question starts with the shortest pause again."""
        self.asking.has_answered = True
        self.pause = FIRST_PAUSE

    def pause_after(self, failure: InferenceServerException) -> float:
        """Seconds to wait before the same request is sent again.

        Raises:
            UserError: it is not to be sent again: it was refused, there is no time left, or the client is closed.
        """
        asking = self.asking
        asking.check()
        error = user_error(failure, asking.url, asking.access, timeout=self.timeout, command=asking.command)
        is_away = isinstance(error, (NoServerError, NotServedError)) and not isinstance(error, NoTlsError)
        asking.has_answered |= isinstance(error, AwayError) or not isinstance(error, SILENT)
        patience = self.timeout if asking.has_answered or not is_away else min(self.timeout, asking.wait)
        pause = self.pause * random.uniform(0.5, 1.0)  # so that clients who were refused together do not return so
        left = self.began + patience - time.monotonic()
        if not (is_away or isinstance(error, BusyError)) or left < pause + LEAST_LEFT:
            raise error from None
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return pause
