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


def leave_one_out(user: np.ndarray, timestamp: np.ndarray) -> Split:
    """Per user the last rating by time is the test, the one before it is validation, the rest trains.

    File order breaks ties in time: of two equal timestamps the later row is the later rating. A user with two ratings
    has no validation row, a user with one has no test row either. He et al., "Neural Collaborative Filtering", 2017.

    Args:
        user: int [ratings], the user of each rating, in file order.
        timestamp: int64 [ratings], Unix seconds.
    """
    order = np.lexsort((np.arange(len(user)), timestamp, user))
    sorted_user = user[order]
    starts = np.flatnonzero(np.append(True, sorted_user[1:] != sorted_user[:-1]))
    sizes = np.diff(np.append(starts, len(user)))
    from_end = np.repeat(starts + sizes, sizes) - 1 - np.arange(len(user))  # 0 is the user's last rating
    size = np.repeat(sizes, sizes)
    test = (from_end == 0) & (size >= 2)
    valid = (from_end == 1) & (size >= 3)
    return Split(np.sort(order[~test & ~valid]), np.sort(order[valid]), np.sort(order[test]))


def random_split(rows: int, rng: np.random.Generator) -> Split:
    """20 % of the rows test, a tenth of the others validates, the rest trains."""
    order = rng.permutation(rows)
    tests = round(rows * TEST_SHARE)
    valids = round((rows - tests) * VALID_SHARE)
    test, valid, train = np.split(order, [tests, tests + valids])
    return Split(np.sort(train), np.sort(valid), np.sort(test))
