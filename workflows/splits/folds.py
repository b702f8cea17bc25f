"""The five folds of MovieLens-100K: each fifth of the ratings, in the order of the file, is the test of one split.

GroupLens publishes them as `u1.base` and `u1.test` to `u5.base` and `u5.test`, which its script `mku.sh` cuts from
`u.data`: the test of fold i is the i-th block of 20,000 lines. So results compare with published ones. Of any other
dataset the folds are the fifths of its ratings file, which may be sorted by user.
"""

from functools import partial

import numpy as np

from workflows.splits.base import SPLITS, TEST, TRAIN, VALID, Split, Splitter, TimeOrder, is_liked

FOLDS = 5
VALID_SHARE = 0.1  # of the rows that are not tested
FIRST_STREAM = 11


def fold_split(rows: int, fold: int, rng: np.random.Generator) -> Split:
    """The rows of one fifth test, a tenth of the others, drawn, validates, the rest trains.

    Args:
        fold: from 1 to `FOLDS`.
    """
    part = np.full(rows, TRAIN, np.int8)
    part[rows * (fold - 1) // FOLDS : rows * fold // FOLDS] = TEST
    others = np.flatnonzero(part == TRAIN)
    part[rng.permutation(others)[: round(len(others) * VALID_SHARE)]] = VALID
    return Split(part)


def assign(times: TimeOrder, rng: np.random.Generator, fold: int) -> Split:
    """The split of one fold, whatever the order of time."""
    return fold_split(len(times), fold, rng)


for number in range(1, FOLDS + 1):
    SPLITS.add(
        f"u{number}",
        Splitter(
            assign=partial(assign, fold=number),
            label=is_liked,
            candidates=False,
            stream=FIRST_STREAM + number,
            needs="about 20 ratings",
        ),
        position=40 + number,
    )
