"""The temporary folder that a server serves from, made again where it was lost."""

import os
from contextlib import ExitStack
from pathlib import Path

from core.errors import UserError
from core.temporary import temporary_folder
from ensemble.repository import releases
from ensemble.repository.releases import Release
from ensemble.server.process import TEMPORARY

LONGEST_FOLDER = 85  # bytes; a Unix socket's path may have 107
SHORT_PLACES = (Path("/tmp"), Path("/dev/shm"))
SOCKETS = "marquee-sockets-"


class Workspace:
    """
    Args:
        place: where the folder is made; None for the system's temporary folder.

    Attributes:
        folder: everything is in it.
        served: what Triton serves.
        backends: Triton's own files.
        sockets: for Unix sockets: the folder itself, or another one where its path is too long for them.

    Raises:
        UserError: there is no place with a short path for sockets.
        OSError: it cannot be made.
    """

    def __init__(self, place: Path | None):
        self.place = place
        self.stack = ExitStack()
        self.renew()

    def renew(self) -> None:
        """Goes on in a new folder, as the one before was emptied. What is left of it is removed at the end.

        Raises:
            UserError, OSError: it cannot be made.
        """
        self.folder = self.stack.enter_context(temporary_folder(TEMPORARY, self.place))
        self.served, self.backends = self.folder / "served", self.folder / "backends"
        self.sockets = self.folder
        if len(os.fsencode(self.folder)) > LONGEST_FOLDER:
            place = next((one for one in SHORT_PLACES if os.access(one, os.W_OK | os.X_OK)), None)
            if place is None:
                raise UserError(f"{self.folder} is too long a path for sockets; choose a shorter --work-dir")
            self.sockets = self.stack.enter_context(temporary_folder(SOCKETS, place))

    def serves(self, release: Release) -> bool:
        """Whether the files of a release are there for Triton."""
        return self.served.is_dir() and is_whole(release, self.served)

    def lay_out(self, release: Release) -> None:
        """Has the folder that is served hold this release alone, if it does not.

        Raises:
            OSError: files of the release are gone, or the folder cannot be written.
        """
        if not self.serves(release) or len(list(self.served.glob("*/[0-9]*"))) != len(release.models):
            releases.lay_out(release, self.served)

    def close(self) -> None:
        """Removes all that was made."""
        self.stack.close()


def is_whole(release: Release, folder: Path) -> bool:
    """Whether all files of a release are in a folder."""
    return all((folder / name).is_file() for name in release.files)
