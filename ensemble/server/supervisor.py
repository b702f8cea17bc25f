"""Keeps a server answering: checks it each second, repairs it, and switches it to new releases."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from core.artifacts import ANY_COMMAND
from core.errors import UserError, system_reason
from ensemble.repository.releases import Release
from ensemble.server.access import ServerAccess
from ensemble.server.backoff import Backoff
from ensemble.server.canary import Canary
from ensemble.server.doors import COMMAND, FrontDoor, default_workers
from ensemble.server.events import Event, EventLog
from ensemble.server.health import SILENT, Health
from ensemble.server.logs import claimed, last_error, trim
from ensemble.server.ports import Ports, private_port
from ensemble.server.process import Server, exit_code, start
from ensemble.server.rollout import Rehearsals, switch
from ensemble.server.waiting import wait_for_an_end
from ensemble.server.workspace import Workspace, is_whole

ROUND_SECONDS = 1.0
RESTARTS_IN_A_ROW = 8
OPEN = ServerAccess()


@contextmanager
def supervised(
    repository: Path,
    log: Path | None,
    ports: Ports,
    access: ServerAccess = OPEN,
    *,
    report: Callable[[str], Any] = print,
    public_key: Path | None = None,
    command: str = ANY_COMMAND,
    work_dir: Path | None = None,
    workers: int | None = None,
    front_door: tuple[str, ...] = COMMAND,
) -> Iterator["Supervisor"]:
    """A server that answers as the trained networks do, and which `Supervisor.watch` keeps answering.

    Clients ask the front door, which listens on the ports and passes on to a Triton that only it can ask.

    The thread that enters the block must be the one that leaves it, as the processes end with that thread.

    Args:
        repository: an exported repository; what its manifest names is served, now and whenever it changes.
        log: where Triton's own output goes; the front door's is beside it. None for the temporary folder.
        ports: where the front door listens.
        access: what it asks of its clients.
        report: called with a line each time that something was done.
        public_key: of the key that every release must be signed with; None for no such demand.
        command: the command line that writes the repository, for the message.
        work_dir: where the temporary folder is made; None for the system's.
        workers: the front door's processes; None for as many as the processors allow.
        front_door: the command line of one of them.

    Raises:
        UserError: the repository was changed, a port is taken, a certificate cannot be used, there is no Triton, it
            does not come up, or its answers are not those of the trained networks.
        OSError: the temporary folder cannot be written.
    """
    access.check()
    ports.check()
    workspace = Workspace(work_dir)
    try:
        with claimed(log or workspace.folder / "triton.log") as own_log:
            rehearsals = Rehearsals(repository, workspace, log=own_log, public_key=public_key, command=command)
            history = EventLog(report)
            door_log = own_log.with_name(f"{own_log.stem}-front-door{own_log.suffix}")
            door = FrontDoor(
                lambda: workspace.folder, door_log, ports, access,
                workers=workers or default_workers(), history=history, command=front_door,
            )  # fmt: skip
            supervisor = Supervisor(rehearsals, workspace, own_log, door, history)
            try:
                supervisor.start()
                yield supervisor
            finally:
                supervisor.close()
    finally:
        workspace.close()


class Supervisor:
    """See `supervised`. Everything that happens to the server happens in the thread that calls `step` or `watch`.

    Attributes:
        door: what clients ask.
        release: what is served.
        server: the Triton behind the front door; None while it is down.
    """

    def __init__(self, rehearsals: Rehearsals, workspace: Workspace, log: Path, door: FrontDoor, history: EventLog):
        self.rehearsals, self.workspace, self.log, self.door, self.history = rehearsals, workspace, log, door, history
        self.secret = secrets.token_urlsafe(32)
        self.server: Server | None = None
        self.health = Health()
        self.backoff = Backoff()
        self.down_since = 0.0
        self.start_at = 0.0
        self.rejected = ""

    @property
    def events(self) -> list[Event]:
        """What was done so far."""
        return self.history.events

    @property
    def ports(self) -> Ports:
        """Where clients ask."""
        return self.door.ports

    @property
    def served(self) -> Path:
        """The folder that Triton serves."""
        return self.workspace.served

    def start(self) -> None:
        """Starts Triton, and then the front door.

        Raises:
            UserError, OSError: one does not come up, or the answers are not those of the trained networks.
        """
        self.release = self.rehearsals.take()
        self.canary = Canary(self.release)
        server = self._start_triton()
        self.door.start(server.url, server.access.headers)
        self._tell()
        if not server.hidden:
            self.history.add(
                "this machine's users can read Triton's own secret in its command line, as its kernel forbids ptrace"
            )

    def close(self) -> None:
        """Stops the front door, then Triton, and a rehearsal if there is one."""
        self.rehearsals.interrupt()
        self.door.close()
        if self.server is not None:
            self.server.stop()
        self.rehearsals.close()
        self.health.close()

    def watch(self) -> None:
        """Takes a step each second, and at once where a process has ended, until it is interrupted.

        Raises:
            UserError: Triton or the front door was started again and again without one answer.
        """
        while True:
            began = time.monotonic()
            self.step()
            pids = [*self.door.pids(), *(stub.pid for stub in self.health.stubs.values())]
            if self.server is not None:
                pids.append(self.server.process.pid)
            wait_for_an_end(pids, began + ROUND_SECONDS - time.monotonic())

    def step(self) -> None:
        """Asks each model and the front door, repairs what does not answer, and follows the repository.

        A repair takes seconds.

        Raises:
            UserError: as `watch` does.
        """
        trim(self.log)
        trim(self.door.log)
        if self.server is not None:
            self._check(self.server)
        if self.server is None and time.monotonic() >= self.start_at:
            self._start_again()
        self.door.step(partial(self._ask, next(iter(self.release.models))) if self.server is not None else None)
        self._follow()

    def _ask(self, model: str, url: str, access: Any, seconds: float) -> None:
        self.canary.ask(url, access, model, seconds)

    def _tell(self) -> None:
        """Has the front door show what is served."""
        self.door.set("triton_up", int(self.server is not None))
        self.door.set("served_version", self.release.version)

    # -- keeping the server alive --------------------------------------------------------------------------------------

    def _check(self, server: Server) -> None:
        """Asks each model, reloads those that do not answer, and gives the server up where that does not help."""
        began = time.monotonic()
        if not self.workspace.serves(self.release):
            return self._give_up("the files that Triton serves are gone", began)
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
        try:
            is_loaded = self.health.reload(server, self.canary, model, self.served)
            help_needed = "a reload did not help"
        except OSError as error:
            is_loaded, help_needed = False, f"it cannot be reloaded ({system_reason(error)})"
        if not is_loaded:
            self._give_up(f"{model}: {trouble}, and {help_needed}", began)
            return False
        seconds = time.monotonic() - began
        self.history.add(f"{model}: {trouble}; reloaded in {seconds:.1f} s", seconds)
        self.door.count("model_reloads", model=model)
        return True

    def _give_up(self, reason: str, began: float, answerable: bool = True) -> None:
        """Stops the server, which a later step starts again.

        Args:
            answerable: whether a Triton was there that could have answered.
        """
        if self.server is not None:
            self.server.stop(patience=0)
            self.server, self.down_since = None, began
            self.health.forget()
        self._tell()
        wait = self.backoff.failed(answerable)
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
            self._restore()
            server = self._start_triton()
        except (UserError, OSError) as error:
            answerable = self.server is not None
            return self._give_up(system_reason(error) or str(error), self.down_since, answerable)
        seconds = time.monotonic() - self.down_since
        self.door.move(server.url)
        self.door.count("triton_restarts")
        self._tell()
        self.history.add(f"Triton was started again, and answers {seconds:.1f} s after it was found not to", seconds)
        return None

    def _start_triton(self) -> Server:
        """A Triton that answers as the networks do.

        Raises:
            UserError, OSError: it does not come up, or its answers are others.
        """
        self.workspace.lay_out(self.release)
        if not self.log.parent.is_dir():  # the run folder was deleted, which is no reason to serve no more
            self.log = self.workspace.folder / self.log.name
        server = self.server = start(self.served, self.workspace.backends, self.log, private_port(), self.secret)
        server.wait_until_it_answers(self.canary)
        self.canary.check_sample(server.url, server.access)
        for model in self.release.models:
            self.health.is_alive(server, self.canary, model)  # so that its process is known when it dies
        self.backoff.healthy(time.monotonic())
        return server

    def _restore(self) -> None:
        """Takes the release from the repository again where the copy of it is gone.

        Raises:
            UserError, OSError: the repository does not have it, or it cannot be copied.
        """
        if self.workspace.serves(self.release) or is_whole(self.release, self.release.folder):
            return
        self.workspace.renew()
        self.release = self.rehearsals.take()
        self.canary = Canary(self.release)
        self.history.add(f"the copy that was served was lost; version {self.release.version} was copied again")

    # -- following the repository --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            release = self.rehearsals.poll(self.release)
        except (UserError, OSError) as error:
            self.door.count("rehearsals", outcome="failed")
            self._reject(error)
        else:
            if release is not None:
                self.door.count("rehearsals", outcome="passed")
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
            self.rehearsals.failed(error)
            self._reject(error)
            unused = release.folder
        else:
            self.release, self.canary, self.rejected = release, canary, ""
            rehearsed, seconds = began - self.rehearsals.started_at, time.monotonic() - began
            self.history.add(
                f"version {release.version} is served, after a rehearsal of {rehearsed:.1f} s and {seconds:.1f} s for "
                f"the switch; before, it was version {before.version}",
                seconds,
            )
            self._tell()
            unused = before.folder
        return shutil.rmtree(unused, ignore_errors=True)

    def _replace(self, canary: Canary) -> None:
        """Starts the server with a release that cannot be loaded beside the one before, or while it is down."""
        if self.server is not None:
            self.history.add(
                f"another version {canary.release.version} replaces the one that was served; Triton is started with it"
            )
            self.server.stop()
            self.server, self.down_since = None, time.monotonic()
            self.health.forget()
        shutil.rmtree(self.release.folder, ignore_errors=True)
        shutil.rmtree(self.served, ignore_errors=True)
        self.release, self.canary, self.rejected = canary.release, canary, ""
        self.backoff, self.start_at = Backoff(), 0.0

    def _reject(self, error: Exception) -> None:
        """Reports why a release is not served, once for each reason."""
        reason = system_reason(error) or str(error)
        if reason == self.rejected:
            return
        self.rejected = reason
        seconds = time.monotonic() - self.rehearsals.started_at
        self.history.add(
            f"the new release is not served, version {self.release.version} stays in service: {reason}", seconds
        )
