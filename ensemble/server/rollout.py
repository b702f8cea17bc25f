"""New releases: noticed in the repository, rehearsed on a private server, then switched to."""

import secrets
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from core.artifacts import ANY_COMMAND, MANIFEST
from core.errors import UserError
from ensemble.repository import releases
from ensemble.repository.releases import Release
from ensemble.repository.serials import Serials
from ensemble.server.access import ServerAccess
from ensemble.server.canary import Canary
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import Server, start

Stamp = tuple[int, int, int]


class Rehearsals:
    """Follows a repository, and tries each new release on a private server before it may be served.

    Args:
        repository: an exported repository.
        folder: where releases are copied to.
        backends: a folder that the wheel's backends are copied to.
        log: of the server; a rehearsal's is beside it.
        public_key: of the key that every release must be signed with; None for no such demand.
        command: the command line that writes the repository, for the message.
        serials: of this repository and key; None to accept older ones than were served before.

    Attributes:
        started_at: when the last rehearsal began, in seconds of a monotonic clock.
        current: the rehearsal that is under way; None where there is none.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        backends: Path,
        *,
        log: Path,
        public_key: Path | None = None,
        command: str = ANY_COMMAND,
        serials: Serials | None = None,
    ):
        self.repository, self.folder, self.backends = repository, folder, backends
        self.log = log.with_name(f"{log.stem}-rehearsal{log.suffix}")
        self.public_key, self.command, self.serials = public_key, command, serials
        self.seen = manifest_stamp(repository)
        self.count = 0
        self.started_at = 0.0
        self.current: Future[Release | None] | None = None
        self.closing = threading.Event()
        self.executor = ThreadPoolExecutor(1, "rehearsal")

    def first(self) -> Release:
        """A copy of what the repository serves at the start.

        Raises:
            UserError: as `releases.take`.
        """
        return releases.take(self.repository, self.folder / "release-0", self.public_key, self.command, self.serials)

    def interrupt(self) -> None:
        """Makes a rehearsal that is under way end soon."""
        self.closing.set()

    def close(self) -> None:
        """Waits for a rehearsal that is under way."""
        self.executor.shutdown(cancel_futures=True)

    def poll(self, served: Release) -> Release | None:
        """Starts a rehearsal where the repository has changed, and returns a release that has passed one.

        Args:
            served: the release that is served now.

        Raises:
            UserError: a release did not pass: it was changed, or its answers are not those of the trained networks.
            OSError: it could not be copied.
        """
        stamp = manifest_stamp(self.repository)
        if self.current is None:
            if stamp and stamp != self.seen:
                self.seen = stamp
                self.count += 1
                self.started_at = time.monotonic()
                self.current = self.executor.submit(self._rehearse, self._copy(), served)
            return None
        if not self.current.done():
            return None
        rehearsal, self.current = self.current, None
        release = None
        try:
            release = rehearsal.result()
            if stamp not in (self.seen, None):  # the repository has changed again
                release = None
        finally:
            if release is None:
                shutil.rmtree(self._copy(), ignore_errors=True)
        return release

    def _copy(self) -> Path:
        return self.folder / f"release-{self.count}"

    def _rehearse(self, copy: Path, served: Release) -> Release | None:
        """A copy of what the repository serves now, tried on a private server; None where that is served already.

        Raises:
            UserError: the repository was changed, or its answers are not those of the trained networks.
        """
        release = releases.take(self.repository, copy, self.public_key, self.command, self.serials)
        if release.same_as(served):
            return None
        canary = Canary(release)
        private = ServerAccess(secrets.token_urlsafe(32))
        server = start(copy, self.backends, self.log, Ports(free_port()), private)
        try:
            server.wait_until_it_answers(canary, self.closing)
            canary.check_sample(server.url, server.access)
        finally:
            server.stop(patience=0)  # it has no other clients
        return release


def switch(server: Server, served: Path, before: Release, after: Canary) -> None:
    """Has a running server load a release beside the one before, or takes it back where that fails.

    Args:
        served: the folder that the server serves.
        after: of the release to load.

    Raises:
        UserError, OSError: why it failed; `before` is served.
    """
    try:
        releases.install(after.release, served, (before.version,))
        server.wait_until_it_answers(after)
        after.check_sample(server.url, server.access)
    except (UserError, OSError):
        releases.install(before, served, (before.version, after.release.version))
        raise


def manifest_stamp(repository: Path) -> Stamp | None:
    """Changes whenever the manifest is written again; None while it is not there."""
    try:
        found = (repository / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
