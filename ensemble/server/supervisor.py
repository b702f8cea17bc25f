"""Keeps a server answering: checks it each second, repairs it, and switches it to new releases."""

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
from ensemble.repository.serials import Serials
from ensemble.server.access import ServerAccess
from ensemble.server.backoff import Backoff
from ensemble.server.canary import Canary
from ensemble.server.doors import COMMAND, FrontDoor, default_workers
from ensemble.server.events import EventLog
from ensemble.server.keeper import Keeper
from ensemble.server.logs import claimed, trim
from ensemble.server.ports import Ports
from ensemble.server.rollout import Rehearsals, switch
from ensemble.server.waiting import wait_for_an_end
from ensemble.server.workspace import Workspace

ROUND_SECONDS = 1.0
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
    serials: Serials | None = None,
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
        serials: of that key's manifests; None to accept older ones than were served before.
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
            rehearsals = Rehearsals(
                repository, workspace, log=own_log, public_key=public_key, command=command, serials=serials
            )
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


class Supervisor(Keeper):
    """See `supervised`. Everything that happens to the server happens in the thread that calls `step` or `watch`."""

    def __init__(self, rehearsals: Rehearsals, workspace: Workspace, log: Path, door: FrontDoor, history: EventLog):
        super().__init__(rehearsals, workspace, log, door, history)
        self.rejected = ""
        self.mishap = ""
        self.turn = 0

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
        try:
            trim(self.log)
            trim(self.door.log)
            if self.server is not None:
                self._check(self.server)
            if self.server is None and time.monotonic() >= self.start_at:
                self._start_again()
            self.door.step(partial(self._ask, self._next_model()) if self.answering else None)
            self._follow()
        except OSError as error:  # no file handles are left, for example
            reason = system_reason(error)
            if reason != self.mishap:
                self.history.add(f"not everything could be checked ({reason}); it is tried again each second")
            self.mishap = reason
        else:
            self.mishap = ""

    def _next_model(self) -> str:
        """The model that the front door is asked for now: each of those that clients may ask has its turn."""
        public = [model for model in self.answering if not self.canary.is_private(model)]
        self.turn += 1
        return (public or self.answering)[self.turn % len(public or self.answering)]

    def _ask(self, model: str, url: str, access: Any, seconds: float) -> None:
        self.canary.ask(url, access, model, seconds)

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
