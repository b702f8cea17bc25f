"""Leave-one-out: each user's last rating tests, the one before it validates."""

import numpy as np

from workflows.splits.base import SPLITS, TEST, TRAIN, VALID, Split, Splitter, TimeOrder, is_interaction


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


def assign(times: TimeOrder, _rng: np.random.Generator) -> Split:
    """Leave-one-out, in which chance plays no part."""
    return leave_one_out(times)


SPLITS.add(
    "leave-one-out",
    Splitter(assign=assign, label=is_interaction, candidates=True, stream=0, needs="a user with 3 ratings"),
    position=10,
)
