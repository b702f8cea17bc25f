"""Random split: a fifth of all ratings tests, a tenth of the others validates."""

import numpy as np

from workflows.splits.base import SPLITS, TEST, TRAIN, VALID, Split, Splitter, TimeOrder, is_liked

TEST_SHARE = 0.2  # of all rows
VALID_SHARE = 0.1  # of the rows that are left


def random_split(rows: int, rng: np.random.Generator) -> Split:
    """20 % of the rows test, a tenth of the others validates, the rest trains."""
    order = rng.permutation(rows)
    tests = round(rows * TEST_SHARE)
    valids = round((rows - tests) * VALID_SHARE)
    part = np.full(rows, TRAIN, np.int8)
    part[order[:tests]] = TEST
    part[order[tests : tests + valids]] = VALID
    return Split(part)


def assign(times: TimeOrder, rng: np.random.Generator) -> Split:
    """A random split, whatever the order of time."""
    return random_split(len(times), rng)


SPLITS.add(
    "random-split",
    Splitter(assign=assign, label=is_liked, candidates=False, stream=1, needs="about 20 ratings", uses_chance=True),
    position=20,
)
