"""The front door's processes: started, asked, and replaced where they do not answer."""

import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from core.errors import UserError, system_reason
from ensemble.client import Access, NoServerError, TimedOutError
from ensemble.front_door.settings import FrontDoorSettings
from ensemble.server.access import Inside, ServerAccess
from ensemble.server.backoff import Backoff
from ensemble.server.events import EventLog
from ensemble.server.growth import HOLDS_MORE, MOST_GROWTH
from ensemble.server.logs import rotate
from ensemble.server.ports import Ports
from ensemble.server.process import STOP_SECONDS, exit_code
from ensemble.server.worker import Worker

COMMAND = (sys.executable, "-m", "ensemble.front_door")
LONGEST_SOCKET = 107  # bytes of a Unix socket's path
MISSES_IN_A_ROW = 3
CANARY_SECONDS = 2.0
TRIES_IN_A_ROW = 8
Ask = Callable[[str, Access, float], None]  # a question to an address; a UserError where there is no answer


def default_workers() -> int:
    """How many processes the machine's processors allow: a quarter of them, from 1 to 4."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // 4))


@dataclass
class Place:
    """One of the front door's processes, and the next ones in its place.

    Attributes:
        worker: None while there is none.
        leaving: what it replaces, which answers until the new one listens.
    """

    number: int
    _: KW_ONLY
    worker: Worker | None = None
    leaving: Worker | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(longest=10.0))
    start_at: float = 0.0
    down_since: float = 0.0
    starts: int = 0

    @property
    def listens(self) -> bool:
        return self.worker is not None and bool(self.worker.ports)


class FrontDoor:
    """See `ensemble.front_door`. Everything happens in the thread that calls the methods.

    Args:
        folder: gives a folder for sockets, private to this user; it may be another one at each call.
        log: where its errors go.
        ports: the public ports.
        access: what is asked of clients.
        workers: how many processes share the ports.
        history: takes a line for each repair.
        command: of a process.

    Attributes:
        ports: those that it listens on.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        log: Path,
        ports: Ports,
        access: ServerAccess,
        *,
        workers: int,
        history: EventLog,
        command: Sequence[str] = COMMAND,
    ):
        self.folder, self.log, self.ports, self.history, self.command = folder, log, ports, history, command
        self.places = [Place(number) for number in range(workers)]
        self.old: list[tuple[Worker, float]] = []  # they answer what is under way, until a moment
        self.gauges: dict[str, float] = {}
        self.asking = ThreadPoolExecutor(workers, "front-door")
        self.settings = FrontDoorSettings(
            triton="",
            host=ports.host,
            http=ports.http or None,
            metrics=ports.metrics or None,
            private_secret=secrets.token_urlsafe(32),
            secret=access.secret,
            certificate=_absolute(access.certificate),
            key=_absolute(access.key),
            client_ca=_absolute(access.client_ca),
            workers=workers,
        )

    def start(
        self, triton: str, headers: dict[str, str], *, http: str = "", http_headers: dict[str, str] | None = None
    ) -> None:
        """Starts all processes and waits until they listen.

        Args:
            triton: `host:port` of Triton's gRPC.
            headers: what every request to it carries.
            http, http_headers: the same of its HTTP, where it has it.

        Raises:
            UserError, OSError: one does not come up; the message carries its last error.
        """
        rotate(self.log)
        self.settings = replace(
            self.settings,
            triton=triton,
            triton_headers=headers,
            triton_http=http,
            triton_http_headers=http_headers or {},
        )
        for place in self.places:  # one after the other, as the first may have to choose the port
            worker = place.worker = self._new(place)
            while not worker.is_ready():
                worker.wait(1.0)
            self._has_started(place)

    def pids(self) -> list[int]:
        """The processes that should run."""
        return [place.worker.process.pid for place in self.places if place.worker]

    # -- notes ---------------------------------------------------------------------------------------------------------

    def count(self, what: str, **labels: str) -> None:
        """Counts something that was done, once for all processes."""
        if worker := self.places[0].worker:
            worker.note({"count": what, **labels})

    def set(self, what: str, value: float) -> None:
        """Sets a figure."""
        self.gauges[what] = value
        if worker := self.places[0].worker:
            worker.note({"set": what, "value": value})

    def move(self, triton: str, http: str = "") -> None:
        """Names the addresses of a Triton that was started again."""
        self.settings = replace(self.settings, triton=triton, triton_http=http)
        for place in self.places:
            for worker in filter(None, (place.worker, place.leaving)):
                worker.note({"triton": triton, "http": http})

    # -- repairs -------------------------------------------------------------------------------------------------------

    def step(self, ask: Ask | None) -> None:
        """Asks each process, and replaces those that do not answer.

        Args:
            ask: None where there is no Triton that could answer.

        Raises:
            UserError: a process was started `TRIES_IN_A_ROW` times and never answered.
        """
        self._see_off()
        troubles = {place.number: self._look(place) for place in self.places}
        asked = [place for place in self.places if ask and not troubles[place.number] and place.listens]
        if ask is not None:
            answers = self.asking.map(lambda place: self._ask(place, ask), asked)
            troubles.update({place.number: trouble for place, trouble in zip(asked, answers)})
        for place in self.places:
            if place.leaving and place.listens and ask:  # and can end, as Triton answers what it waits for
                self._send_off(place.leaving, self.settings.limits.seconds)
                place.leaving = None
            if troubles[place.number]:
                self._replace(place, troubles[place.number])
            if place.worker is None and time.monotonic() >= place.start_at:
                self._start_again(place)

    def close(self) -> None:
        """Has all processes answer what is under way, and ends them after at most `STOP_SECONDS`."""
        workers = [worker for place in self.places for worker in (place.worker, place.leaving) if worker]
        self.old = [(worker, min(until, time.monotonic() + STOP_SECONDS)) for worker, until in self.old]
        for worker in workers:
            self._send_off(worker)
        for place in self.places:
            place.worker = place.leaving = None
        while self.old:
            self._see_off()
            time.sleep(0.02)
        self.asking.shutdown()

    def _look(self, place: Place) -> str:
        """What is wrong with a process, as far as it can be seen without asking it."""
        worker = place.worker
        if worker is None:
            return ""
        listened = place.listens
        try:
            if not worker.is_ready():
                return ""
        except UserError as error:
            return str(error)
        if not listened:
            self._has_started(place)
        if not os.path.exists(worker.settings.private):
            return "the front door's private socket is gone"
        # Not where a question was missed: only what answers is left to answer its clients while the next one starts.
        if worker.growth.size > MOST_GROWTH and not worker.misses and not place.leaving:
            return f"the front door holds {worker.growth.size / 1e6:.0f} {HOLDS_MORE}"
        return ""

    def _ask(self, place: Place, ask: Ask) -> str:
        """What is wrong with a process; empty where it answers, or may still do so."""
        worker = place.worker
        assert worker is not None
        try:
            ask(f"unix:{worker.settings.private}", Inside(self.settings.private_secret), CANARY_SECONDS)
        except (TimedOutError, NoServerError) as error:
            worker.misses += 1
            if worker.misses < MISSES_IN_A_ROW:
                return ""
            return f"the front door does not answer ({error}), {MISSES_IN_A_ROW} times in a row"
        except UserError:
            pass  # it refuses: it answers
        worker.misses = 0
        place.backoff.healthy(time.monotonic())
        return ""

    def _replace(self, place: Place, trouble: str) -> None:
        worker = place.worker
        assert worker is not None
        place.worker, place.down_since = None, time.monotonic()
        if worker.ports and exit_code(worker.process) is None and not worker.misses and not place.leaving:
            place.leaving = worker  # it answers its clients
        else:
            worker.kill()
        wait = place.backoff.failed()
        if place.backoff.unanswered > TRIES_IN_A_ROW:
            raise UserError(f"the front door was started {TRIES_IN_A_ROW} times and never answered: {trouble}")
        place.start_at = time.monotonic() + wait
        self.history.add(f"{trouble}; it is started again" + (f" in {wait:.0f} s" if wait else ""))

    def _start_again(self, place: Place) -> None:
        try:
            place.worker = self._new(place)
        except OSError as error:
            place.start_at = time.monotonic() + place.backoff.failed(answerable=False)
            self.history.add(f"the front door cannot be started: {system_reason(error)}; it is tried again")

    def _new(self, place: Place) -> Worker:
        folder = self.folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.starts += 1
        private = folder / f"door-{place.number}-{place.starts}"
        if len(os.fsencode(private)) > LONGEST_SOCKET:
            raise UserError(f"{folder} is too long a path for a socket; choose a shorter --work-dir")
        metrics = ""
        if self.settings.metrics is not None:  # also for one process, as the next one in its place goes on counting
            (folder / "metrics").mkdir(exist_ok=True)
            metrics = str(folder / "metrics")
        settings = replace(
            self.settings, worker=place.number, private=str(private), metrics_folder=metrics, grpc=self.ports.grpc
        )
        # Where the run folder was deleted, errors go to the temporary folder.
        return Worker(self.command, settings, self.log if self.log.parent.is_dir() else folder / self.log.name)

    def _has_started(self, place: Place) -> None:
        """Keeps the ports that it has chosen, and tells it what it must know."""
        worker = place.worker
        assert worker is not None
        self.ports = replace(self.ports, grpc=worker.ports["grpc"])
        worker.note({"triton": self.settings.triton, "http": self.settings.triton_http})
        if place.number == 0:
            for what, value in self.gauges.items():
                worker.note({"set": what, "value": value})
        if place.down_since:
            seconds = time.monotonic() - place.down_since
            self.history.add(f"the front door was started again in {seconds:.1f} s", seconds)
            self.count("front_door_restarts")
            place.down_since = 0.0

    def _send_off(self, worker: Worker, seconds: float | None = None) -> None:
        """Has a process answer what is under way, and end.

        Args:
            seconds: that it may take, where another one has its place and nobody waits for its end.
        """
        worker.end(seconds)
        self.old.append((worker, time.monotonic() + STOP_SECONDS + (seconds or 0.0)))

    def _see_off(self) -> None:
        """Ends what has had its time to end."""
        for worker, until in self.old[:]:
            if exit_code(worker.process) is not None or time.monotonic() > until:
                with suppress(OSError):
                    worker.kill()
                self.old.remove((worker, until))


def _absolute(path: Path | None) -> str:
    return str(path.resolve()) if path else ""
