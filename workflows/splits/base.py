"""What a split is: which rating trains, which validates, which tests; and reading the parts back from disk."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError
from core.registry import Registry

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
UNUSED = -1
LIKED_ABOVE = 3.0  # stars


@dataclass(frozen=True)
class Split:
    """Which part each row of the ratings table belongs to: int8 [ratings], a place in `PARTS`, or `UNUSED`."""

    part: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part, int64, ascending."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def check(self, what: str, needs: str = "a few ratings for each part") -> "Split":
        """Returns itself.

        Args:
            what: the dataset and the split, for the message.
            needs: what the smallest dataset must have, for the message.

        Raises:
            UserError: one of the three is empty.
        """
        for number, part in enumerate(PARTS):
            if not (self.part == number).any():
                raise UserError(
                    f"{what}: the {part} split is empty; the dataset is too small (this split needs {needs})"
                )
        return self


@dataclass(frozen=True)
class TimeOrder:
    """Every user's ratings in the order of time; file order breaks ties.

    Attributes:
        user: int [ratings], the user of each rating, in file order.
        timestamp: int64 [ratings], Unix seconds, in file order.
        order: int64 [ratings], row numbers, sorted by user, then time, then place in the file.
        last: int64 [ratings], for each place in `order` the place of the same user's last rating.
    """

    user: np.ndarray
    timestamp: np.ndarray
    order: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def of(cls, user: np.ndarray, timestamp: np.ndarray) -> "TimeOrder":
        """
        Args:
            user: int [ratings], below 2**31, the user of each rating, in file order.
            timestamp: int64 [ratings], Unix seconds.
        """
        # until 2106 one key is enough, and three times faster
        if len(timestamp) and timestamp.min() >= 0 and timestamp.max() < 2**32:
            order = np.argsort(user.astype(np.int64) << 32 | timestamp, kind="stable")
        else:
            order = np.lexsort((timestamp, user))
        sorted_user = user[order]
        ends = np.flatnonzero(np.append(sorted_user[1:] != sorted_user[:-1], True))[: len(user)]
        return cls(user, timestamp, order, np.repeat(ends, np.diff(ends, prepend=-1)))

    def later(self, counted: np.ndarray | None = None) -> np.ndarray:
        """How many ratings the same user gave later: 0 for the last one, int32 [ratings].

        Args:
            counted: bool [ratings], which of the later ones count; None for all.
        """
        later = np.empty(len(self.order), np.int32)
        if counted is None:
            later[self.order] = self.last - np.arange(len(self.order))
        else:
            so_far = np.cumsum(counted[self.order], dtype=np.int32)
            later[self.order] = so_far[self.last] - so_far
        return later

    def not_before(self) -> np.ndarray:
        """How many other ratings of the same user were given later or in the same second: int32 [ratings]."""
        place = np.arange(len(self.order))
        starts = np.ones(len(place), bool)
        user, timestamp = self.user[self.order], self.timestamp[self.order]
        starts[1:] = (user[1:] != user[:-1]) | (timestamp[1:] != timestamp[:-1])
        count = np.empty(len(place), np.int32)
        count[self.order] = self.last - np.maximum.accumulate(np.where(starts, place, 0))
        return count

    def ratings_of_user(self) -> np.ndarray:
        """How many ratings the user of each rating gave, int32 [ratings]."""
        size = np.empty(len(self.order), np.int32)
        ends = self.last[np.append(True, self.last[1:] != self.last[:-1])] if len(self.last) else self.last
        counts = np.diff(ends, prepend=-1)
        size[self.order] = np.repeat(counts, counts)
        return size


@dataclass(frozen=True)
class Splitter:
    """A way to split, as `SPLITS` holds it.

    Attributes:
        assign: gives each rating its part, from the ratings in the order of time and a generator of random numbers.
        label: what a rating's stars become as the target, in float32. A named function that can be imported, as
            NVTabular saves a LambdaOp's function by its name.
        candidates: whether `prepare` draws, for each validation and test row, movies that the user has not rated.
        stream: separates its random numbers from those of other splits with the same seed; each split has its own.
        needs: what the smallest dataset must have, for the message that a part is empty.
        uses_chance: whether another seed gives other test rows, so that results can be taken over several splits.
    """

    _: KW_ONLY
    assign: Callable[[TimeOrder, np.random.Generator], Split]
    label: Callable[[Any], Any]
    candidates: bool
    stream: int
    needs: str
    uses_chance: bool = False


SPLITS: Registry[Splitter] = Registry("split", "workflows.splits")


def is_interaction(rating: Any) -> Any:
    """1 for every rating, whatever its stars, in float32."""
    return (rating > 0).astype("float32")


def is_liked(rating: Any) -> Any:
    """1 where the stars are above `LIKED_ABOVE`, else 0, in float32."""
    return (rating > LIKED_ABOVE).astype("float32")


def split_files(folder: Path, part: str) -> list[Path]:
    """The files of one split (`train`, `valid` or `test`) of a protocol's features, in the order of their rows."""
    files = (folder / part).glob("part_*.parquet")
    return sorted(files, key=lambda path: int(path.stem.removeprefix("part_")))


def read_split(folder: Path, part: str, columns: list[str]) -> pa.Table:
    """Columns of one split of a protocol's features, all rows."""
    return pa.concat_tables([pq.read_table(path, columns=columns) for path in split_files(folder, part)])
