"""What will they watch from a date on? What a system in production faces: it knows nothing that came later.

The ratings of everyone before t1 train, those up to before t2 validate, and those from t2 on test (see
`workflows/splits/temporal.py`). Each user with a rating in the test is asked about once: their first movie there, among
99 that they have rated in no split, and among all that they have not rated before. Models know what came before t2, in
validation before t1. That is of ratings: the catalogue is known, so that a movie with its first rating in the test is
among the candidates and the negatives. The settings are leave-one-out's, whose studies looked at the last rating but
one of each user, some of which are in this test.

Users who rate for the first time in the test have no embedding, no history and no statistics: most of what a network
knows of them is nothing. So the figures over all movies are also given without them, as `known_full_<name>`.

Its models are not exported: they lack the newest ratings and the people who gave them, which leave-one-out's models
know.
"""

from dataclasses import dataclass, replace

import numpy as np

from models.evaluation.judgement import Judgement, PerUser, Scorer
from models.evaluation.metrics.base import FULL, KNOWN, columns_of, heading
from models.protocols.base import PROTOCOLS
from models.protocols.next_movie import HeldOut, NextMovie


@dataclass(frozen=True, kw_only=True)
class Temporal(NextMovie):
    """See the module."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Those of its task, then those over all movies without new people."""
        found = columns_of(self.task)
        known = [KNOWN + name for _, name in found if name.startswith(FULL)]
        return found + [(heading(self.task, name), name) for name in known]

    def judge(self, scorer: Scorer, questions: HeldOut) -> list[Judgement]:
        sampled, full = super().judge(scorer, questions)
        assert isinstance(full, PerUser)
        return [sampled, *with_and_without_new_people(full, questions.full.known)]


def with_and_without_new_people(full: PerUser, known: np.ndarray) -> tuple[PerUser, PerUser]:
    """The metrics over all movies of every user, and of those who have rated before.

    What is kept of the former says of each user whether they are among the latter, in a column `known`.

    Args:
        known: bool [users], who they are.
    """
    ranks, *others = full.kept
    marked = replace(ranks, columns={**ranks.columns, "known": known})
    of_known = {KNOWN + name: values[known] for name, values in full.values.items()}
    return replace(full, kept=(marked, *others)), PerUser(of_known, "known_users")


PROTOCOLS.add(
    "temporal",
    Temporal(
        name="temporal",
        split="temporal",
        defaults_like="leave-one-out",
        question="What will they watch from a date on? (temporal; all movies, and a sample of 99)",
        title="What will they watch from a date on? (temporal)",
        is_default=False,
        is_served=False,
    ),
    position=40,
)
