"""The two protocols' splits: which rating trains, which validates, which tests."""

from dataclasses import dataclass

import numpy as np

from marquee.errors import UserError

TEST_SHARE = 0.2  # of all rows
VALID_SHARE = 0.1  # of the rows that are left


@dataclass(frozen=True)
class Split:
    """Row numbers of the ratings table, int64, each ascending; a row is in one of the three or in none."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def check(self, what: str) -> "Split":
        """Returns itself.

        Raises:
            UserError: one of the three is empty.
        """
        for part in ("train", "valid", "test"):
            if not len(getattr(self, part)):
                raise UserError(
                    f"{what}: the {part} split is empty; the dataset is too small "
                    "(leave-one-out needs a user with 3 ratings, random-split about 20 ratings)"
                )
        return self


def later_ratings(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """How many ratings the same user gave later: 0 for the last one, int32 [ratings].

    File order breaks ties in time: of two equal timestamps the later row is the later rating.

    Args:
        user: int [ratings], the user of each rating, in file order.
        timestamp: int64 [ratings], Unix seconds.
    """
    order = np.lexsort((np.arange(len(user)), timestamp, user))
    sorted_user = user[order]
    end_of_user = np.searchsorted(sorted_user, sorted_user, side="right")
    later = np.empty(len(user), np.int32)
    later[order] = end_of_user - 1 - np.arange(len(user))
    return later


def leave_one_out(user: np.ndarray, timestamp: np.ndarray) -> Split:
    """Per user the last rating by time is the test, the one before it is validation, the rest trains.

    A user with two ratings has no validation row, a user with one has no test row either. Ties and arguments as in
    `later_ratings`. He et al., "Neural Collaborative Filtering", 2017.
    """
    later = later_ratings(user, timestamp)
    _, inverse, sizes = np.unique(user, return_inverse=True, return_counts=True)
    size = sizes[inverse]
    test = (later == 0) & (size >= 2)
    valid = (later == 1) & (size >= 3)
    return Split(np.flatnonzero(~test & ~valid), np.flatnonzero(valid), np.flatnonzero(test))


def random_split(rows: int, rng: np.random.Generator) -> Split:
    """20 % of the rows test, a tenth of the others validates, the rest trains."""
    order = rng.permutation(rows)
    tests = round(rows * TEST_SHARE)
    valids = round((rows - tests) * VALID_SHARE)
    test, valid, train = np.split(order, [tests, tests + valids])
    return Split(np.sort(train), np.sort(valid), np.sort(test))
