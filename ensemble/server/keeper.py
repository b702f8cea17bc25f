"""Keeps one Triton answering: starts it, repairs it, and starts it again."""

import secrets
import time
from pathlib import Path

from core.errors import UserError, system_reason
from ensemble.headers import SECRET_HEADER
from ensemble.server.backoff import Backoff
from ensemble.server.canary import Canary
from ensemble.server.doors import FrontDoor
from ensemble.server.events import Event, EventLog
from ensemble.server.health import SILENT, Health
from ensemble.server.logs import last_error
from ensemble.server.ports import Ports, is_free, private_port
from ensemble.server.process import Server, exit_code, start
from ensemble.server.rollout import Rehearsals
from ensemble.server.workspace import Workspace, is_whole

RESTARTS_IN_A_ROW = 8


class Keeper:
    """The part of a `Supervisor` that knows nothing of new releases.

    Attributes:
        door: what clients ask.
        release: what is served.
        server: the Triton behind the front door; None while it is down.
        answering: the models that have answered Triton's last check.
    """

    def __init__(self, rehearsals: Rehearsals, workspace: Workspace, log: Path, door: FrontDoor, history: EventLog):
        self.rehearsals, self.workspace, self.log, self.door, self.history = rehearsals, workspace, log, door, history
        self.secret = secrets.token_urlsafe(32)
        self.port, self.http_port = private_port(), private_port()
        self.server: Server | None = None
        self.health = Health()
        self.answering: list[str] = []
        self.backoff = Backoff()
        self.down_since = 0.0
        self.start_at = 0.0

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
        self.door.start(server.url, server.access.headers, http=server.http, http_headers={SECRET_HEADER: self.secret})
        self._tell()
        if not server.hidden:
            self.history.add(
                "this machine's users can read Triton's own secret in its command line, as its kernel forbids ptrace"
            )

    def _tell(self) -> None:
        """Has the front door show what is served."""
        self.door.set("triton_up", int(self.server is not None))
        self.door.set("served_version", self.release.version)

    def _check(self, server: Server) -> None:
        """Asks each model, reloads those that do not answer, and gives the server up where that does not help."""
        began = time.monotonic()
        self.answering = []
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
            self.answering += [model for model in models if not (troubles[model] or self.health.misses.get(model))]
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
        self.answering = []
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
        self.door.move(server.url, server.http)
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
        if not is_free(self.port):
            self.port = private_port()
        if self.http_port == self.port or not is_free(self.http_port):
            self.http_port = private_port()
        server = self.server = start(
            self.served, self.workspace.backends, self.log, self.port, self.secret, http=self.http_port
        )
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
