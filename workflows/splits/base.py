"""The two protocols' splits: which rating trains, which validates, which tests; and reading them back from disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError

TEST_SHARE = 0.2  # of all rows
VALID_SHARE = 0.1  # of the rows that are left
PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
UNUSED = -1


@dataclass(frozen=True)
class Split:
    """Which part each row of the ratings table belongs to: int8 [ratings], a place in `PARTS`, or `UNUSED`."""

    part: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part, int64, ascending."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def check(self, what: str) -> "Split":
        """Returns itself.

        Raises:
            UserError: one of the three is empty.
        """
        for number, part in enumerate(PARTS):
            if not (self.part == number).any():
                raise UserError(
                    f"{what}: the {part} split is empty; the dataset is too small "
                    "(leave-one-out needs a user with 3 ratings, random-split about 20 ratings)"
                )
        return self


@dataclass(frozen=True)
class TimeOrder:
    """Every user's ratings in the order of time; file order breaks ties.

    Attributes:
        order: int64 [ratings], row numbers, sorted by user, then time, then place in the file.
        last: int64 [ratings], for each place in `order` the place of the same user's last rating.
    """

    order: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, user: np.ndarray, timestamp: np.ndarray) -> "TimeOrder":
        """
        Args:
            user: int [ratings], below 2**31, the user of each rating, in file order.
            timestamp: int64 [ratings], Unix seconds.
        """
        if (
            len(timestamp) and timestamp.min() >= 0 and timestamp.max() < 2**32
        ):  # until 2106 one key is enough: 3 x faster
            order = np.argsort(user.astype(np.int64) << 32 | timestamp, kind="stable")
        else:
            order = np.lexsort((timestamp, user))
        sorted_user = user[order]
        ends = np.flatnonzero(np.append(sorted_user[1:] != sorted_user[:-1], True))[: len(user)]
        return cls(order, np.repeat(ends, np.diff(ends, prepend=-1)))

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

    def ratings_of_user(self) -> np.ndarray:
        """How many ratings the user of each rating gave, int32 [ratings]."""
        size = np.empty(len(self.order), np.int32)
        ends = self.last[np.append(True, self.last[1:] != self.last[:-1])] if len(self.last) else self.last
        counts = np.diff(ends, prepend=-1)
        size[self.order] = np.repeat(counts, counts)
        return size


def leave_one_out(times: TimeOrder) -> Split:
    """Per user the last rating by time is the test, the one before it is validation, the rest trains.

    A user with two ratings has no validation row, a user with one has no test row either. He et al., "Neural
    Collaborative Filtering", 2017.
    """
    later, size = times.later(), times.ratings_of_user()
    part = np.full(len(later), TRAIN, np.int8)
    part[(later == 0) & (size >= 2)] = TEST
    part[(later == 1) & (size >= 3)] = VALID
    return Split(part)


def random_split(rows: int, rng: np.random.Generator) -> Split:
    """20 % of the rows test, a tenth of the others validates, the rest trains."""
    order = rng.permutation(rows)
    tests = round(rows * TEST_SHARE)
    valids = round((rows - tests) * VALID_SHARE)
    part = np.full(rows, TRAIN, np.int8)
    part[order[:tests]] = TEST
    part[order[tests : tests + valids]] = VALID
    return Split(part)


def split_files(folder: Path, part: str) -> list[Path]:
    """The files of one split (`train`, `valid` or `test`) of a protocol's features, in the order of their rows."""
    files = (folder / part).glob("part_*.parquet")
    return sorted(files, key=lambda path: int(path.stem.removeprefix("part_")))


def read_split(folder: Path, part: str, columns: list[str]) -> pa.Table:
    """Columns of one split of a protocol's features, all rows."""
    return pa.concat_tables([pq.read_table(path, columns=columns) for path in split_files(folder, part)])
