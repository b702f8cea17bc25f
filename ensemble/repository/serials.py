"""Manifests that were signed and replaced since: recognised by the serial numbers that a server has seen.

A signature does not expire. Who can write to a repository, and kept an old manifest with its files, could have it
served again. So a server keeps the highest serial number that it has seen of each repository and key, in a file that
whoever writes repositories should not be able to write.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError
from core.json_files import only_writer, parsed_json, validated, write_json
from core.signing import key_id
from ensemble.repository.manifest import Serial

FILE = "serials.json"


def default_state_file() -> Path:
    """The file in the folder that systemd gives a service (`StateDirectory=`), or else in the user's own.

    Raises:
        UserError: there is no such folder.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given) / FILE
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(home):
        raise UserError("there is no home folder to keep serial numbers in; give a file with --state-file")
    return Path(home) / "marquee" / FILE


@dataclass
class Serials:
    """The highest serial number that was seen of a repository's manifests.

    Attributes:
        repository: where it lies: each place has its own number, whatever lies there.
        public_key: the file of the key that its manifests are signed with.
        file: where the number is kept, over all repositories and servers.
        least: no lower one is accepted. Where it is given, a file that cannot be used is passed over: for read-only
            systems.
        seen: by this process.
    """

    repository: Path
    public_key: Path
    file: Path
    least: int | None = None
    seen: int = field(default=0, init=False)

    def check(self, serial: int) -> None:
        """
        Raises:
            UserError: a higher number was seen, or is demanded; or the file cannot be used.
        """
        if serial < (self.least or 0):
            raise UserError(f"{self.repository} has the serial number {serial}, below --least-serial {self.least}")
        highest = max(self.seen, self._kept().get(self._name(), 0))
        if serial < highest:
            raise UserError(
                f"{self.repository} has the serial number {serial}, and {highest} was served before: this manifest was "
                f"replaced since; export or roll back again, or remove {self.file} to accept it"
            )

    def record(self, serial: int) -> None:
        """Keeps a number where it is the highest.

        Raises:
            UserError: the file cannot be written, and no least number is given.
        """
        self.seen = max(self.seen, serial)
        name = self._name()
        if self._kept().get(name, -1) >= serial:
            return
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with only_writer(self.file):
                kept = self._kept()
                write_json(self.file, {**kept, name: max(serial, kept.get(name, 0))})
        except (OSError, UserError) as error:
            if self.least is None:
                raise self._unusable(error, serial) from None

    def _name(self) -> str:
        """The place and the key, as the file has them. Links are not followed: a link may lead elsewhere tomorrow."""
        place = os.fsencode(self.repository.absolute()).decode("utf-8", "backslashreplace")
        return f"{place} {key_id(self.public_key)}"

    def _kept(self) -> dict[str, int]:
        """The highest number of each place and key."""
        try:
            content = self.file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            if self.least is None:
                raise self._unusable(error, 0) from None
            return {}
        return validated(dict[str, Serial], parsed_json(content, self.file, "serve"), str(self.file))

    def _unusable(self, error: Exception, serial: int) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(
            f"cannot keep the highest serial number in {self.file} ({reason}); give another file with --state-file, "
            f"or on a read-only system the least number that may be served: --least-serial {serial}"
        )
