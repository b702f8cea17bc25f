"""Keeps a server answering: looks after it each second, mends it, and leads it to new releases."""

import contextlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from core.artifacts import MANIFEST
from core.errors import UserError
from ensemble import client
from ensemble.client import NoServerError, TimedOutError
from ensemble.repository import releases
from ensemble.repository.releases import Release
from ensemble.server.access import ServerAccess
from ensemble.server.canary import Canary
from ensemble.server.process import (
    CANARY_SECONDS,
    OPEN,
    SHARED_MEMORY,
    Ports,
    Server,
    exit_code,
    free_port,
    last_words,
    start,
)

ROUND_SECONDS = 1.0
MISSES_IN_A_ROW = 3
RELOAD_SECONDS = 20.0
RESTARTS_IN_A_ROW = 8
SILENT = "Triton does not answer"
DIED = "its Python process died"


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


@dataclass
class Backoff:
    """How long to wait before a server that failed is started again: 0, 1, 2, 4 ... `longest` seconds.

    From the beginning again once it has been healthy for `forget_after` seconds. Times are those of a monotonic clock.
    """

    longest: float = 60.0
    forget_after: float = 60.0
    failures: int = 0
    unanswered: int = 0
    healthy_since: float | None = None

    def healthy(self, now: float) -> None:
        """It has answered."""
        self.unanswered = 0
        if self.healthy_since is None:
            self.healthy_since = now
        if now - self.healthy_since >= self.forget_after:
            self.failures = 0

    def failed(self) -> float:
        """It has failed; the seconds to wait. `unanswered` counts the failures without an answer between them."""
        self.healthy_since = None
        self.failures += 1
        self.unanswered += 1
        return 0.0 if self.failures == 1 else min(2.0 ** (self.failures - 2), self.longest)


@contextmanager
def supervised(
    repository: Path,
    log: Path,
    ports: Ports,
    access: ServerAccess = OPEN,
    tell: Callable[[str], Any] = print,
    public_key: Path | None = None,
) -> Iterator["Supervisor"]:
    """A server that answers as the trained networks do, and which `Supervisor.watch` keeps answering.

    The block is to be left in the thread that entered it, which must live as long: the server ends with that thread.

    Args:
        repository: an exported repository; what its manifest names is served, now and whenever it changes.
        log: where the server's own output goes.
        access: what it asks of its clients.
        tell: told in one line each time that something was done.
        public_key: of the key that every release must be signed with; None for no such demand.

    Raises:
        UserError: the repository was changed, a port is taken, there is no Triton, it does not come up, or its answers
            are not those of the trained networks.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-triton-") as temporary:
        supervisor = Supervisor(repository, log, ports, access, tell, public_key, Path(temporary))
        try:
            supervisor.start()
            yield supervisor
        finally:
            supervisor.close()


class Supervisor:
    """See `supervised`. Everything that happens to the server happens in the thread that calls `step` or `watch`.

    Attributes:
        events: what was done so far.
        release: what is served.
        server: the server; None while it is down.
    """

    def __init__(
        self,
        repository: Path,
        log: Path,
        ports: Ports,
        access: ServerAccess,
        tell: Callable[[str], Any],
        public_key: Path | None,
        folder: Path,
    ):
        self.repository, self.public_key = repository, public_key
        self.log, self.ports, self.access, self.tell = log, ports, access, tell
        self.events: list[Event] = []
        self.folder, self.served = folder, folder / "served"
        self.seen = _stamp(repository)
        self.release = releases.take(repository, folder / "release-0", public_key)
        self.canary = Canary(self.release)
        ports.check()
        self.backends = folder / "backends"
        self.server: Server | None = None
        self.backoff = Backoff()
        self.down_since = self.start_at = 0.0
        self.misses: dict[str, int] = {}  # canaries in a row without an answer, per model
        self.done: dict[str, int | None] = {}
        self.stubs: dict[str, psutil.Process] = {}
        self.shared: dict[str, str] = {}  # the name of what each stub shares with the server
        self.taken = 0
        self.closing = threading.Event()
        self.rehearsal: Future[Release | None] | None = None
        self.rehearsed_at = 0.0
        self.canaries = ThreadPoolExecutor(thread_name_prefix="canary")
        self.rehearser = ThreadPoolExecutor(1, "rehearsal")

    def start(self) -> None:
        """Starts the server.

        Raises:
            UserError: it does not come up, or its answers are not those of the trained networks.
        """
        releases.lay_out(self.release, self.served)
        self.server = start(self.served, self.backends, self.log, self.ports, self.access)
        self.server.wait_until_it_answers(self.canary)
        self.canary.check_sample(self.ports.url, self.server.access)
        for model in self.release.models:
            self._lives(self.server, model)  # so that its process is known when it dies
        self.backoff.healthy(time.monotonic())
        if self.access.secret and not self.server.hidden:
            self._say("this machine's users can read the secret in Triton's command line, as its kernel forbids ptrace")

    def close(self) -> None:
        """Stops the server, and a rehearsal if there is one."""
        self.closing.set()
        if self.server is not None:
            self.server.stop()
        self.rehearser.shutdown(cancel_futures=True)
        self.canaries.shutdown()

    def watch(self) -> None:
        """Takes a step each second, until it is interrupted.

        Raises:
            UserError: the server was started again `RESTARTS_IN_A_ROW` times without one answer.
        """
        while True:
            began = time.monotonic()
            self.step()
            time.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))

    def step(self) -> None:
        """Asks each model, mends what does not answer, and follows the repository; seconds, if there is much to do.

        Raises:
            UserError: as `watch` does.
        """
        if self.server is not None:
            self._look_after(self.server)
        if self.server is None and time.monotonic() >= self.start_at:
            self._start_again()
        self._follow()

    # -- looking after the server --------------------------------------------------------------------------------------

    def _look_after(self, server: Server) -> None:
        began = time.monotonic()
        ensembles = {model for model in self.release.models if self.canary.parts(model)}
        # An ensemble is asked once its parts have answered, as it fails with them.
        for models in (set(self.release.models) - ensembles, ensembles):
            troubles = dict(zip(models, self.canaries.map(lambda model: self._trouble(server, model), models)))
            code = exit_code(server.process)
            if code is not None:
                return self._fail(f"Triton ended by itself (exit code {code})", began)
            if SILENT in troubles.values():
                return self._fail(SILENT, began)
            for model in [model for model in models if troubles[model]]:
                if not self._reload(server, model, troubles[model], began):
                    return None
            if any(troubles.values()) or any(self.misses.get(model) for model in models):
                return None
        return self.backoff.healthy(time.monotonic())

    def _trouble(self, server: Server, model: str) -> str:
        """What is wrong with a model that has to be mended; nothing where it answers, or may yet."""
        if not self._lives(server, model):
            return DIED
        try:
            self.canary.ask(server.url, server.access, model, CANARY_SECONDS)
        except (TimedOutError, NoServerError) as error:
            done = self._done(server, model)
            busy = done is not None and done != self.done.get(model)
            self.misses[model] = 1 if busy else self.misses.get(model, 0) + 1
            self.done[model] = done
            if self.misses[model] < MISSES_IN_A_ROW:
                return ""
            return SILENT if done is None else f"{error}, {MISSES_IN_A_ROW} times in a row"
        except UserError as error:
            if not self._lives(server, model):
                return DIED
            with contextlib.suppress(UserError):  # once more, as one error alone means little
                self.canary.ask(server.url, server.access, model, CANARY_SECONDS)
                return ""
            return str(error).rstrip(".")
        self.misses[model] = 0
        return ""

    def _lives(self, server: Server, model: str) -> bool:
        """Whether a model's Python process is there, hung or not; always, where it has none of its own."""
        with contextlib.suppress(KeyError, psutil.NoSuchProcess):
            if self.stubs[model].is_running() and self.stubs[model].status() != psutil.STATUS_ZOMBIE:
                return True
        if not self.canary.has_process(model):
            return True
        found = server.stubs(model)  # looks at every process of the machine, so not each time
        if found:
            self.stubs[model] = found[-1]
            with contextlib.suppress(psutil.Error, IndexError):
                self.shared[model] = found[-1].cmdline()[2]
        return bool(found)

    def _done(self, server: Server, model: str) -> int | None:
        """How many requests a model has done with: where that grows, it is busy, not dead. None if Triton is mute."""
        headers = server.access.headers
        try:
            with client.connection(server.url, server.access, CANARY_SECONDS) as triton:
                found = triton.get_inference_statistics(model, headers=headers, client_timeout=CANARY_SECONDS)
        except UserError:
            return None
        return sum(one.inference_stats.success.count + one.inference_stats.fail.count for one in found.model_stats)

    def _reload(self, server: Server, model: str, trouble: str, began: float) -> bool:
        """Has a model loaded anew; the server is given up where that does not help. Whether it did."""
        for stub in server.stubs(model):
            with contextlib.suppress(psutil.NoSuchProcess):
                stub.kill()  # a hung one would stay
        releases.touch(self.served, model, self.release.version)
        if model in self.shared:
            (SHARED_MEMORY / self.shared.pop(model)).unlink(missing_ok=True)  # Triton leaves a dead one's behind
        self.misses[model] = 0
        deadline = time.monotonic() + RELOAD_SECONDS
        while time.monotonic() < deadline and exit_code(server.process) is None:
            try:
                if not self._lives(server, model):
                    raise UserError(DIED)
                self.canary.ask(server.url, server.access, model, CANARY_SECONDS)
            except UserError:
                time.sleep(0.1)
            else:
                seconds = time.monotonic() - began
                self._say(f"{model}: {trouble}; reloaded in {seconds:.1f} s", seconds)
                return True
        self._fail(f"{model}: {trouble}, and a reload did not help", began)
        return False

    def _fail(self, reason: str, began: float) -> None:
        """The server is given up; it is started again in a later step."""
        if self.server is not None:
            self.server.stop(patience=0)
            self.server, self.down_since = None, began
        wait = self.backoff.failed()
        if self.backoff.unanswered > RESTARTS_IN_A_ROW:
            raise UserError(
                f"Triton was started {RESTARTS_IN_A_ROW} times and never answered ({reason}): "
                f"{last_words(self.log)}; its log is {self.log}"
            )
        self.start_at = time.monotonic() + wait
        self._say(f"{reason}; it is started again" + (f" in {wait:.0f} s" if wait else ""))

    def _start_again(self) -> None:
        try:
            self.start()
        except UserError as error:
            return self._fail(str(error), self.down_since)
        seconds = time.monotonic() - self.down_since
        self.misses.clear()
        self._say(f"Triton was started again, and answers {seconds:.1f} s after it was found not to", seconds)
        return None

    # -- following the repository --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        stamp = _stamp(self.repository)
        if self.rehearsal is None:
            if stamp and stamp != self.seen:
                self.seen, self.taken, self.rehearsed_at = stamp, self.taken + 1, time.monotonic()
                self.rehearsal = self.rehearser.submit(self._rehearse, self.folder / f"release-{self.taken}")
            return
        if not self.rehearsal.done():
            return
        rehearsal, self.rehearsal = self.rehearsal, None
        try:
            release = rehearsal.result()
        except (UserError, OSError) as error:
            self._keep(str(error))
        else:
            if release is not None and stamp in (self.seen, None):  # else it is out of date already
                return self._switch(release)
        shutil.rmtree(self.folder / f"release-{self.taken}", ignore_errors=True)

    def _rehearse(self, folder: Path) -> Release | None:
        """A copy of what the repository serves now, tried on a private server. None: it is what is served already.

        Raises:
            UserError: the repository was changed, or its answers are not those of the trained networks.
        """
        release = releases.take(self.repository, folder, self.public_key)
        if release.same_as(self.release):
            return None
        canary = Canary(release)
        log = self.log.with_name(f"{self.log.stem}-rehearsal{self.log.suffix}")
        nobody_elses = ServerAccess(secrets.token_urlsafe(32))
        server = start(folder, self.backends, log, Ports(free_port()), nobody_elses)
        try:
            server.wait_until_it_answers(canary, self.closing)
            canary.check_sample(server.url, server.access)
        finally:
            server.stop(patience=0)  # nobody else asks it
        return release

    def _switch(self, release: Release) -> None:
        """Has the server load a rehearsed release and drop the one before, or goes back where that does not go well."""
        before, began = self.release, time.monotonic()
        canary, server = Canary(release), self.server
        if server is None or release.version == before.version:
            return self._replace(release)
        try:
            releases.install(release, self.served, (before.version,))
            server.wait_until_it_answers(canary)
            canary.check_sample(server.url, server.access)
        except (UserError, OSError) as error:
            releases.install(before, self.served, (before.version, release.version))
            self._keep(str(error))
            folder = release.folder
        else:
            self.release, self.canary = release, canary
            seconds = time.monotonic() - began
            self._say(
                f"version {release.version} is served, after a rehearsal of {began - self.rehearsed_at:.1f} s and "
                f"{seconds:.1f} s for the switch; before, it was version {before.version}",
                seconds,
            )
            folder = before.folder
        shutil.rmtree(folder)

    def _replace(self, release: Release) -> None:
        """Starts the server with a release that cannot be loaded beside the one before, or while it is down."""
        if self.server is not None:
            self._say(f"another version {release.version} takes the place of the first; Triton is started with it")
            self.server.stop()
            self.server, self.down_since = None, time.monotonic()
        shutil.rmtree(self.release.folder)
        self.release, self.canary = release, Canary(release)
        self.backoff, self.start_at = Backoff(), 0.0

    def _keep(self, reason: str) -> None:
        seconds = time.monotonic() - self.rehearsed_at
        self._say(f"the new release is not served, version {self.release.version} goes on: {reason}", seconds)

    def _say(self, what: str, seconds: float = 0.0) -> None:
        self.events.append(Event(time.time(), what, seconds))
        self.tell(what)


def _stamp(repository: Path) -> tuple[int, int, int] | None:
    """Changes whenever the manifest is written anew; None for the moment in which it is not there."""
    try:
        found = (repository / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
