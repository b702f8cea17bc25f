"""An exported repository without its run folder: where the titles of its movies are."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.artifacts import read_manifest, sha256
from core.errors import UserError
from ensemble.repository.manifest import read_versions
from ensemble.triton_models.files import OF_ALL, TITLES, vocabulary_file

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Exported:
    """A folder that `export` wrote, or a copy of it."""

    folder: Path

    def command(self, name: str) -> str:
        """A command line for this repository, for messages."""
        return f"python -m marquee {name} --repository {shlex.quote(str(self.folder))}"

    def titles(self) -> Path | None:
        """The titles of the version that serves; None where an earlier Marquee exported it, without them.

        Raises:
            UserError: there is no repository, or the titles were changed.
        """
        manifest = read_manifest(self.folder)
        name = f"{OF_ALL}/{read_versions(manifest, self.folder).version}/{TITLES}"
        if name not in manifest["files"]:
            return None
        path = self.folder / name
        if not path.is_file() or sha256(path) != manifest["files"][name]:
            raise UserError(f"{path} is missing or has changed; export or copy the repository again")
        return path

    def type_of(self, name: str) -> "pa.DataType":
        """The type of the ids of `user_id` or `movie_id`: int64 or text.

        Raises:
            UserError: there is no repository, or not all of it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        version = read_versions(read_manifest(self.folder), self.folder).version
        path = self.folder / "recommend" / str(version) / vocabulary_file(name)
        try:
            return pq.read_schema(path).field(name).type
        except (OSError, KeyError, pa.ArrowException):
            raise UserError(f"{path} cannot be read; export or copy the repository again") from None
