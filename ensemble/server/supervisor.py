"""Keeps a server answering: checks it each second, repairs it, and switches it to new releases."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.artifacts import ANY_COMMAND
from core.errors import UserError
from core.temporary import temporary_folder
from ensemble.repository import releases
from ensemble.repository.releases import Release
from ensemble.server.access import ServerAccess
from ensemble.server.backoff import Backoff
from ensemble.server.canary import Canary
from ensemble.server.events import Event, EventLog
from ensemble.server.health import SILENT, Health
from ensemble.server.ports import Ports
from ensemble.server.process import OPEN, TEMPORARY, Server, exit_code, last_error, start
from ensemble.server.rollout import Rehearsals, switch

ROUND_SECONDS = 1.0
RESTARTS_IN_A_ROW = 8


@contextmanager
def supervised(
    repository: Path,
    log: Path,
    ports: Ports,
    access: ServerAccess = OPEN,
    *,
    report: Callable[[str], Any] = print,
    public_key: Path | None = None,
    command: str = ANY_COMMAND,
) -> Iterator["Supervisor"]:
    """A server that answers as the trained networks do, and which `Supervisor.watch` keeps answering.

    The thread that enters the block must be the one that leaves it, as the server ends with that thread.

    Args:
        repository: an exported repository; what its manifest names is served, now and whenever it changes.
        log: where the server's own output goes.
        access: what it asks of its clients.
        report: called with a line each time that something was done.
        public_key: of the key that every release must be signed with; None for no such demand.
        command: the command line that writes the repository, for the message.

    Raises:
        UserError: the repository was changed, a port is taken, there is no Triton, it does not come up, or its answers
            are not those of the trained networks.
    """
    with temporary_folder(TEMPORARY) as folder:
        rehearsals = Rehearsals(
            repository, folder, folder / "backends", log=log, public_key=public_key, command=command
        )
        supervisor = Supervisor(rehearsals, folder, log, ports, access=access, report=report)
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
        rehearsals: Rehearsals,
        folder: Path,
        log: Path,
        ports: Ports,
        *,
        access: ServerAccess,
        report: Callable[[str], Any],
    ):
        self.rehearsals = rehearsals
        self.log, self.ports, self.access = log, ports, access
        self.history = EventLog(report)
        self.served = folder / "served"
        self.backends = rehearsals.backends
        self.release = rehearsals.first()
        self.canary = Canary(self.release)
        ports.check()
        self.server: Server | None = None
        self.health = Health()
        self.backoff = Backoff()
        self.down_since = 0.0
        self.start_at = 0.0

    @property
    def events(self) -> list[Event]:
        return self.history.events

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
            self.health.is_alive(self.server, self.canary, model)  # so that its process is known when it dies
        self.backoff.healthy(time.monotonic())
        if self.access.secret and not self.server.hidden:
            self.history.add(
                "this machine's users can read the secret in Triton's command line, as its kernel forbids ptrace"
            )

    def close(self) -> None:
        """Stops the server, and a rehearsal if there is one."""
        self.rehearsals.interrupt()
        if self.server is not None:
            self.server.stop()
        self.rehearsals.close()
        self.health.close()

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
        """Asks each model, repairs what does not answer, and follows the repository. A repair takes seconds.

        Raises:
            UserError: as `watch` does.
        """
        if self.server is not None:
            self._check(self.server)
        if self.server is None and time.monotonic() >= self.start_at:
            self._start_again()
        self._follow()

    # -- keeping the server alive --------------------------------------------------------------------------------------

    def _check(self, server: Server) -> None:
        """Asks each model, reloads those that do not answer, and gives the server up where that does not help."""
        began = time.monotonic()
        ensembles = {model for model in self.release.models if self.canary.parts(model)}
        # An ensemble is asked once its parts have answered, as it fails with them.
        for models in (set(self.release.models) - ensembles, ensembles):
            troubles = self.health.troubles(server, self.canary, models)
            code = exit_code(server.process)
            if code is not None:
                return self._give_up(f"Triton ended by itself (exit code {code})", began)
            if SILENT in troubles.values():
                return self._give_up(SILENT, began)
            for model, trouble in troubles.items():
                if trouble and not self._reload(server, model, trouble, began):
                    return None
            if any(troubles.values()) or any(self.health.misses.get(model) for model in models):
                return None
        return self.backoff.healthy(time.monotonic())

    def _reload(self, server: Server, model: str, trouble: str, began: float) -> bool:
        """Reloads a model; the server is given up where that does not help. Returns whether it did."""
        if not self.health.reload(server, self.canary, model, self.served):
            self._give_up(f"{model}: {trouble}, and a reload did not help", began)
            return False
        seconds = time.monotonic() - began
        self.history.add(f"{model}: {trouble}; reloaded in {seconds:.1f} s", seconds)
        return True

    def _give_up(self, reason: str, began: float) -> None:
        """Stops the server, which a later step starts again."""
        if self.server is not None:
            self.server.stop(patience=0)
            self.server, self.down_since = None, began
        wait = self.backoff.failed()
        if self.backoff.unanswered > RESTARTS_IN_A_ROW:
            raise UserError(
                f"Triton was started {RESTARTS_IN_A_ROW} times and never answered ({reason}): "
                f"{last_error(self.log)}; its log is {self.log}"
            )
        self.start_at = time.monotonic() + wait
        delay = f" in {wait:.0f} s" if wait else ""
        self.history.add(f"{reason}; it is started again{delay}")

    def _start_again(self) -> None:
        try:
            self.start()
        except UserError as error:
            return self._give_up(str(error), self.down_since)
        seconds = time.monotonic() - self.down_since
        self.health.misses.clear()
        self.history.add(f"Triton was started again, and answers {seconds:.1f} s after it was found not to", seconds)
        return None

    # -- following the repository --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            release = self.rehearsals.poll(self.release)
        except (UserError, OSError) as error:
            self._reject(str(error))
        else:
            if release is not None:
                self._switch(release)

    def _switch(self, release: Release) -> None:
        """Has the server load a rehearsed release and drop the one before, or keeps that one where it fails."""
        before, began = self.release, time.monotonic()
        canary = Canary(release)
        if self.server is None or release.version == before.version:
            return self._replace(canary)
        try:
            switch(self.server, self.served, before, canary)
        except (UserError, OSError) as error:
            self._reject(str(error))
            unused = release.folder
        else:
            self.release, self.canary = release, canary
            rehearsed, seconds = began - self.rehearsals.started_at, time.monotonic() - began
            self.history.add(
                f"version {release.version} is served, after a rehearsal of {rehearsed:.1f} s and {seconds:.1f} s for "
                f"the switch; before, it was version {before.version}",
                seconds,
            )
            unused = before.folder
        return shutil.rmtree(unused)

    def _replace(self, canary: Canary) -> None:
        """Starts the server with a release that cannot be loaded beside the one before, or while it is down."""
        if self.server is not None:
            self.history.add(
                f"another version {canary.release.version} replaces the one that was served; Triton is started with it"
            )
            self.server.stop()
            self.server, self.down_since = None, time.monotonic()
        shutil.rmtree(self.release.folder)
        self.release, self.canary = canary.release, canary
        self.backoff, self.start_at = Backoff(), 0.0

    def _reject(self, reason: str) -> None:
        seconds = time.monotonic() - self.rehearsals.started_at
        self.history.add(
            f"the new release is not served, version {self.release.version} stays in service: {reason}", seconds
        )
