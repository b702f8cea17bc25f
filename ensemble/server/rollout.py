"""New releases: noticed in the repository, rehearsed on a private server, then switched to."""

import secrets
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from core.artifacts import ANY_COMMAND, MANIFEST
from core.errors import UserError
from ensemble.repository import releases
from ensemble.repository.releases import Release
from ensemble.repository.serials import Serials
from ensemble.server.backoff import Backoff
from ensemble.server.canary import Canary, WrongAnswerError
from ensemble.server.ports import private_port
from ensemble.server.process import Server, start
from ensemble.server.workspace import Workspace

Stamp = tuple[int, int, int]
FIRST_WAIT = 5.0  # seconds before a rehearsal that failed is tried again
LONGEST_WAIT = 300.0


class Rehearsals:
    """Follows a repository, and tries each new release on a private server before it may be served.

    A rehearsal that failed is tried again, later and later, as long as the repository does not change, unless the
    answers were wrong: a file may still be on its way, a disk full or the machine busy.

    Args:
        repository: an exported repository.
        workspace: where releases are copied to.
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
        workspace: Workspace,
        *,
        log: Path,
        public_key: Path | None = None,
        command: str = ANY_COMMAND,
        serials: Serials | None = None,
    ):
        self.repository, self.workspace = repository, workspace
        self.log = log.with_name(f"{log.stem}-rehearsal{log.suffix}")
        self.public_key, self.command, self.serials = public_key, command, serials
        self.seen: Stamp | None = None
        self.count = 0
        self.started_at = 0.0
        self.backoff = Backoff(longest=LONGEST_WAIT / FIRST_WAIT)
        self.again_at = float("inf")
        self.copy = workspace.folder
        self.current: Future[Release | None] | None = None
        self.closing = threading.Event()
        self.executor = ThreadPoolExecutor(1, "rehearsal")

    def take(self) -> Release:
        """A copy of what the repository serves now, without a rehearsal: at the start, and where the copy was lost.

        Raises:
            UserError: as `releases.take`.
            OSError: it cannot be copied.
        """
        self.seen = manifest_stamp(self.repository)
        return self._take(self._new_copy())

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
            UserError: a release did not pass: it was changed, did not come up, or its answers are not those of the
                trained networks.
            OSError: it could not be copied.
        """
        stamp = manifest_stamp(self.repository)
        if self.current is None:
            if stamp and stamp != self.seen:
                self.seen, self.backoff = stamp, Backoff(longest=self.backoff.longest)
                self.again_at = 0.0
            if stamp and time.monotonic() >= self.again_at:
                self.again_at, self.started_at = float("inf"), time.monotonic()
                self.copy = self._new_copy()
                self.current = self.executor.submit(self._rehearse, self.copy, served)
            return None
        if not self.current.done():
            return None
        rehearsal, self.current = self.current, None
        release = None
        try:
            release = rehearsal.result()
            if stamp not in (self.seen, None):  # the repository has changed again
                release = None
        except (UserError, OSError) as error:
            self.failed(error)
            raise
        finally:
            if release is None:
                shutil.rmtree(self.copy, ignore_errors=True)
        return release

    def failed(self, error: Exception) -> None:
        """Has the last release rehearsed again later, where that may help."""
        if not isinstance(error, WrongAnswerError):
            self.again_at = time.monotonic() + FIRST_WAIT * max(1.0, self.backoff.failed())

    def _new_copy(self) -> Path:
        self.count += 1
        return self.workspace.folder / f"release-{self.count}"

    def _take(self, copy: Path) -> Release:
        shutil.rmtree(copy, ignore_errors=True)
        return releases.take(self.repository, copy, self.public_key, self.command, self.serials)

    def _rehearse(self, copy: Path, served: Release) -> Release | None:
        """A copy of what the repository serves now, tried on a private server; None where that is served already.

        Raises:
            UserError: the repository was changed, or its answers are not those of the trained networks.
        """
        release = self._take(copy)
        if release.same_as(served):
            return None
        canary = Canary(release)
        secret = secrets.token_urlsafe(32)
        server = start(copy, self.workspace.backends, self._writable_log(), private_port(), secret)
        try:
            server.wait_until_it_answers(canary, self.closing)
            canary.check_sample(server.url, server.access)
        finally:
            server.stop(patience=0)  # it has no other clients
        return release

    def _writable_log(self) -> Path:
        return self.log if self.log.parent.is_dir() else self.workspace.folder / self.log.name


def switch(server: Server, served: Path, before: Release, after: Canary) -> None:
    """Has a running server load a release beside the one before, or takes it back where that fails.

    Args:
        served: the folder that the server serves.
        after: of the release to load.

    Raises:
        UserError, OSError: why it failed; `before` is served, unless its files are gone.
    """
    try:
        releases.install(after.release, served, (before.version,))
        server.wait_until_it_answers(after)
        after.check_sample(server.url, server.access)
    except (UserError, OSError):
        with suppress(OSError):  # the caller looks whether it was taken back
            releases.install(before, served, (before.version, after.release.version))
        raise


def manifest_stamp(repository: Path) -> Stamp | None:
    """Changes whenever the manifest is written again; None while it is not there, or cannot be seen."""
    try:
        found = (repository / MANIFEST).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
