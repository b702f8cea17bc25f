"""What a repository's manifest says of its versions, checked: it is JSON that anyone who can write there may change."""

import re
import time
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from core.artifacts import ANY_COMMAND, MANIFEST
from core.errors import UserError
from core.json_files import validated
from ensemble.triton_models.files import CONFIG

LARGEST_VERSION = 10**9
LARGEST_SERIAL = 2**62
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Of a manifest, not of one of its versions.
TAKEN = {"format", "files", "version", "previous", "serial", "releases", "folder", "stage_fingerprint", "key", "kept"}
Version = Annotated[int, Field(ge=1, le=LARGEST_VERSION)]
Serial = Annotated[int, Field(ge=0, le=LARGEST_SERIAL)]


@dataclass(frozen=True, config=ConfigDict(extra="ignore", allow_inf_nan=False), kw_only=True)
class Versions:
    """
    Attributes:
        version: the one that serves.
        previous: the one that is kept for `rollback`; None where there is none.
        serial: of the manifest; each has a higher one than those before it, also after a rollback. 0 where an earlier
            Marquee wrote it.
        releases: details of each version, its `fingerprint` among them.
    """

    version: Version
    previous: Version | None = None
    serial: Serial = 0
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def details(self, version: int, repository: Path, command: str = ANY_COMMAND) -> dict[str, Any]:
        """What the manifest says of a version.

        Args:
            repository, command: as of `read_versions`.

        Raises:
            UserError: nothing, or in another form.
        """
        found = self.releases.get(str(version), {})
        if not isinstance(found.get("fingerprint"), str) or found.keys() & TAKEN:
            where = f"{repository / MANIFEST}: releases.{version}"
            raise UserError(f"{where} is not the details of a version; run again: {command}")
        return found


def read_versions(manifest: dict[str, Any], repository: Path, command: str = ANY_COMMAND) -> Versions:
    """The versions that a manifest names.

    Args:
        repository: that it is of, for the message.
        command: the command line that writes the repository, for the message.

    Raises:
        UserError: it names none, or in another form; the message says which key is wrong.
    """
    where = f"{repository / MANIFEST} does not say which version to serve"
    return validated(Versions, manifest, where, command)


def models_in(manifest: dict[str, Any], repository: Path) -> tuple[str, ...]:
    """The names of the Triton models that a manifest lists.

    Raises:
        UserError: one is not the name of a model.
    """
    paths = [PurePosixPath(name).parts for name in manifest["files"]]
    models = sorted({parts[0] for parts in paths if len(parts) == 2 and parts[1] == CONFIG})
    for model in models:
        if not MODEL_NAME.fullmatch(model):
            raise UserError(f"{repository / MANIFEST} lists a model {model!r:.80}; export it again")
    return tuple(models)


def files_of(manifest: dict[str, Any], *versions: int | None) -> dict[str, str]:
    """The files in the folders of some versions, `score/3/sample.json`, and their SHA-256."""
    numbers = {str(version) for version in versions}
    files = {name: PurePosixPath(name).parts for name in manifest["files"]}
    return {name: manifest["files"][name] for name, parts in files.items() if len(parts) > 2 and parts[1] in numbers}


def next_serial(before: int) -> int:
    """A serial number after another: the time in seconds since 1970, or one more where that is not higher.

    With the time in it, a repository that is exported again from nothing goes on where the lost one ended.
    """
    return max(before + 1, int(time.time()))
