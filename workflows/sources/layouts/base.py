"""What a layout is: the files that a dataset consists of, and the functions that read them into the canonical tables.

`ratings` (pyarrow): `userId` int32, `movieId` int32, `rating` float32 (stars), `timestamp` int64 (Unix seconds, UTC),
in file order. `movies` (pandas): `movieId` int32, `title` str, `year` int16 (0 if unknown), `genres` list of str.
`users` (pandas): `userId` int32, and `gender`, `age`, `occupation` where the dataset has them.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from core.registry import Registry


@dataclass(frozen=True)
class Layout:
    """A file layout. A folder with the (first) ratings file has this layout.

    Attributes:
        title: what messages call it.
        ratings, movies, users: read one file each, given its path; they raise `UserError` for a malformed one.
        more_ratings_files: whose ratings follow, where a release has them in several files; each may be missing.
        users_file: may be missing in a folder, as not every release describes its users.
    """

    title: str
    _: KW_ONLY
    ratings_file: str
    ratings: Callable[[Path], pa.Table]
    movies_file: str
    movies: Callable[[Path], pd.DataFrame]
    more_ratings_files: tuple[str, ...] = ()
    users_file: str | None = None
    users: Callable[[Path], pd.DataFrame] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files, the ratings first."""
        return tuple(name for name in (*self.ratings_files, self.movies_file, self.users_file) if name)

    @property
    def ratings_files(self) -> tuple[str, ...]:
        """The names of the files of its ratings, in order."""
        return self.ratings_file, *self.more_ratings_files


LAYOUTS: Registry[Layout] = Registry("layout", "workflows.sources.layouts")  # in the order in which they are looked for
