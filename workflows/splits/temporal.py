"""Temporal: one moment for everyone. What came before it trains, what came after it tests.

In leave-one-out most ratings of other users are later than a user's test rating, so that a model knows the future of
movies. Here nothing in train is later than anything in validation or test, as for a system in production.
"""

import numpy as np

from workflows.splits.base import SPLITS, TEST, TRAIN, VALID, Split, Splitter, TimeOrder, is_interaction

TRAIN_UNTIL, VALID_UNTIL = 0.8, 0.9  # shares of all rows


def temporal(timestamp: np.ndarray) -> Split:
    """Train before t1, validation from t1 to before t2, test from t2 on.

    t1 and t2 are the timestamps of the ratings that stand at 80 and at 90 % of all ratings in the order of time.
    Ratings of one second are never parted, so that with many ties a part can be smaller or larger, or empty.

    Args:
        timestamp: int64 [ratings], Unix seconds.
    """
    part = np.full(len(timestamp), TRAIN, np.int8)
    if len(timestamp):
        ordered = np.sort(timestamp)
        t1, t2 = (ordered[int(share * len(ordered))] for share in (TRAIN_UNTIL, VALID_UNTIL))
        part[timestamp >= t1] = VALID
        part[timestamp >= t2] = TEST
    return Split(part)


def assign(times: TimeOrder, _rng: np.random.Generator) -> Split:
    """The temporal split, in which chance plays no part."""
    return temporal(times.timestamp)


SPLITS.add(
    "temporal",
    Splitter(assign=assign, label=is_interaction, candidates=True, stream=2, needs="ten ratings at different times"),
    position=30,
)
