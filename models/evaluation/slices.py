"""How a model does on popular and rare movies, and for active and less active people: parts of `evaluation.json`.

What is cut is what the deciding metric is of: the users who are ranked over all movies, or the test rows. Popularity
and activity are numbers of training ratings, so that a slice says what a model could know. Movies (or users) without
any are the slice `new`; the others are cut in three of about equally many judged users or rows, named by their range.
Equal numbers stay together, so that there may be fewer. The pictures of the report cut finer, with intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.constants import K
from models.data.features import Features
from models.evaluation.classes import Class, equal_counts
from models.evaluation.coverage import coverage
from models.evaluation.judgement import Judgement, PerUser, judge_rows
from models.evaluation.kept import LISTS, Kept
from models.evaluation.metrics.base import metrics_of
from models.evaluation.results import Estimate, Slice
from models.protocols.base import PROTOCOLS

NEW = "new"
OTHERS = 3  # classes besides the new
MOVIE_POPULARITY, USER_ACTIVITY = "movie_popularity", "user_activity"
COVERAGE = f"coverage@{K}"


@dataclass(frozen=True)
class TrainingCounts:
    """How many training ratings each user and movie has, by index: int64 [users], int64 [movies]."""

    user: np.ndarray
    movie: np.ndarray

    @classmethod
    def of(cls, features: Features) -> "TrainingCounts":
        """Of the rows of `train`, which the vocabularies are made of too."""
        user, movie = features.seen("train")
        return cls(np.bincount(user, minlength=features.users), np.bincount(movie, minlength=features.movies))


def by_ratings(count: np.ndarray) -> list[Class]:
    """The classes of rows whose user or movie has so many training ratings.

    Args:
        count: int64 [rows].

    >>> [(one.name, one.rows.tolist()) for one in by_ratings(np.array([3, 0, 1, 9, 0]))]
    [('new', [1, 4]), ('1', [2]), ('3', [0]), ('9', [3])]
    """
    new, others = np.flatnonzero(count == 0), np.flatnonzero(count > 0)
    known = [Class(one.name, others[one.rows]) for one in equal_counts(count[others], OTHERS)]
    return [Class(NEW, new), *known] if len(new) else known


def slices_of(protocol: str, parts: Sequence[Judgement], counts: TrainingCounts) -> dict[str, list[Slice]] | None:
    """Every metric of the part that decides, by the popularity of movies and by the activity of users.

    None where that part keeps no table of what was asked.

    Args:
        parts: a model's judgements of the test set, with what they keep.
    """
    deciding = PROTOCOLS[protocol].deciding
    part = next((part for part in parts if deciding in part.names and part.kept), None)
    if part is None:
        return None
    table = part.kept[0]
    cuts = {MOVIE_POPULARITY: counts.movie[table.movie], USER_ACTIVITY: counts.user[table.user]}
    return {
        name: [
            Slice(name=one.name, count=len(one.rows), metrics=_metrics(protocol, part, table, one.rows))
            for one in by_ratings(count)
        ]
        for name, count in cuts.items()
    }


def _metrics(protocol: str, part: Judgement, table: Kept, rows: np.ndarray) -> dict[str, float | None]:
    """The metrics of some users or rows; None where one is undefined, as the AUC of rows with one label."""
    if isinstance(part, PerUser):
        return {name: float(value[rows].mean()) for name, value in part.values.items()}
    task = PROTOCOLS[protocol].task
    label, score = (table.columns[name][rows].astype(np.float64) for name in ("label", "score"))
    needing = {name for name, metric in metrics_of(task).items() if metric.needs_probability}
    owner = np.unique(table.user[rows], return_inverse=True)[1]
    return judge_rows(task, label, score, owner, is_probability=bool(needing & set(part.names))).means()


def coverage_of(parts: Sequence[Judgement], catalogue: int) -> dict[str, Estimate] | None:
    """The share of the catalogue that is in the judged users' lists of their ten best; None where no lists are kept.

    Args:
        catalogue: how many movies are ranked.
    """
    lists = next((kept for part in parts for kept in part.kept if kept.name == LISTS), None)
    if lists is None or not len(lists.movie):
        return None
    share, interval = coverage(lists.movie.reshape(-1, K).astype(np.int64), catalogue)
    low, high = interval or (None, None)
    return {COVERAGE: Estimate(value=share, low=low, high=high)}
