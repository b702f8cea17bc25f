"""The one connection with the server that all sessions of the page share, and how long each answer took."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.errors import UserError
from dashboard.settings import Settings
from ensemble.client import (
    Access,
    AwayError,
    BusyError,
    Client,
    NoServerError,
    NotServedError,
    Recommendations,
    Similar,
    TimedOutError,
)
from ensemble.client.probe import NotReadyError, Readiness, ready

PATIENCE = 3.0  # seconds that a question may take
GLANCE = 1.0  # seconds to see whether a server is back
KEPT = 500  # requests that the page remembers
NEIGHBOURS = 1000  # of a movie: the most that a server gives
KEPT_NEIGHBOURS = 2000  # movies whose neighbours are remembered
AWAY = (AwayError, BusyError, NoServerError, NotServedError, TimedOutError)  # the server may be back later

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Asked:
    """A question that was asked: what it was (`recommend dlrm`), seconds to its answer, when (Unix time), and whether
    there was one."""

    what: str
    seconds: float
    time: float
    answered: bool


class Triton:
    """The server, asked over one gRPC connection by every session's thread.

    Every question raises `UserError`: one of `AWAY` where there is no answer at the moment.

    Attributes:
        requests: the last `KEPT` questions, the latest last.
    """

    def __init__(self, settings: Settings):
        self.url = settings.server
        self.access = Access(settings.secret, Path(settings.ca) if settings.ca else None)
        self.requests: deque[Asked] = deque(maxlen=KEPT)
        self._client = Client(self.url, access=self.access, timeout=PATIENCE, command=settings.commands["serve"])
        self._is_away = False
        self._neighbours: OrderedDict[int, dict[int, float]] = OrderedDict()
        self._neighbours_version = 0
        self._lock = threading.Lock()

    def recommend(self, user_id: int | None, k: int, history: Sequence[int], model: str) -> Recommendations:
        """`Client.recommend`."""
        return self._ask(
            f"recommend {model}".strip(), lambda: self._client.recommend(user_id, k, history=history, model=model)
        )

    def similar(self, movie_id: int, k: int) -> Similar:
        """`Client.similar`."""
        return self._ask("similar", lambda: self._client.similar(movie_id, k))

    def neighbours(self, movie_id: int, version: int) -> dict[int, float]:
        """The movies most like one, and their cosines. Asked once for each version that the server has.

        Args:
            version: of the repository that answered last.
        """
        with self._lock:
            if version != self._neighbours_version:
                self._neighbours.clear()
                self._neighbours_version = version
            if movie_id in self._neighbours:
                self._neighbours.move_to_end(movie_id)
                return self._neighbours[movie_id]
        answer = self.similar(movie_id, NEIGHBOURS)
        found = dict(zip(answer.movie_id.tolist(), answer.score.tolist()))
        with self._lock:
            if answer.version == self._neighbours_version:
                self._neighbours[movie_id] = found
                while len(self._neighbours) > KEPT_NEIGHBOURS:
                    self._neighbours.popitem(last=False)
        return found

    def is_back(self) -> bool:
        """Whether the server says that it is ready."""
        return self._client.is_ready(timeout=GLANCE)

    def health(self) -> tuple[Readiness | None, float, str]:
        """A test request to each model: what answered, the seconds that it took, and else the reason."""
        began = time.perf_counter()
        try:
            found = ready(self.url, self.access, PATIENCE)
        except NotReadyError as error:
            return None, time.perf_counter() - began, str(error)
        return found, time.perf_counter() - began, ""

    def _ask(self, what: str, question: Callable[[], Answer]) -> Answer:
        if self._is_away and not self.is_back():  # a client waits for a server that has answered before
            raise NoServerError(f"no Triton answers at {self.url}")
        asked, began = time.time(), time.perf_counter()
        answered = False
        try:
            answer = question()
            answered = True
        except UserError as error:
            self._is_away = isinstance(error, AWAY) and not isinstance(error, BusyError)
            raise
        finally:
            self.requests.append(Asked(what, time.perf_counter() - began, asked, answered))
        self._is_away = False
        return answer
