"""What `evaluate` keeps of a judged model besides its metrics: ranks, lists and rows that pictures are drawn from.

Metrics and tables are of the same scores, so that they always agree. Two evaluations of a model with batches of another
size, another number of threads or on another machine can differ in the last bits of a float32 score. That shows where
movies have the same inputs: those without an embedding of their own share one, and NCF sees nothing else of a movie. It
depends on such bits whether two of them are tied or one is above the other, so that `rank` and `ties` of a held-out
movie without an embedding of its own can differ by up to the number of these movies.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.constants import K
from models.evaluation.metrics.base import Ranking

if TYPE_CHECKING:
    from models.data.interactions import Interactions

SAMPLED, FULL_CATALOGUE, LISTS, ROWS = "sampled", "full", "lists", "rows"  # the names of the tables


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One table.

    Attributes:
        name: of its file.
        user, movie: int [rows], indices, which become MovieLens ids in the file.
        columns: the other columns by name, [rows] each.
        has_times: whether the rows are those of the split that was judged, in its order: the file has the time of each.
    """

    name: str
    user: np.ndarray
    movie: np.ndarray
    columns: dict[str, np.ndarray]
    has_times: bool = False


def standing(found: Ranking) -> dict[str, np.ndarray]:
    """Where held-out movies stand: all that the ranking metrics depend on.

    Returns:
        `rank`, how many of the others score at least as high, `ties`, how many of those score the same, and `others`,
        how many there are: int32 [users] each.
    """
    ties = ((found.others == found.positive[:, None]) & found.valid).sum(axis=1)
    counts = {"rank": found.rank, "ties": ties, "others": found.valid.sum(axis=1)}
    return {name: count.astype(np.int32) for name, count in counts.items()}


def best_columns(scores: np.ndarray, allowed: np.ndarray, k: int = K) -> np.ndarray:
    """The columns of each row's `k` best scores, best first, equal scores in the order of the columns: int64 [rows, k].

    Args:
        scores: float [rows, n].
        allowed: bool [rows, n], which of them count, at least `k` in each row.

    >>> best_columns(np.array([[0.1, 0.9, 0.5, 0.9]]), np.array([[True, True, True, True]]), 3).tolist()
    [[1, 3, 2]]
    """
    best = np.empty((len(scores), k), np.int64)
    for row, chosen in enumerate(allowed):
        columns = np.flatnonzero(chosen)
        values = scores[row, columns]
        top = values >= np.partition(values, -k)[-k]  # more than k where the last of them has ties
        columns, values = columns[top], values[top]
        best[row] = columns[np.argsort(-values, kind="stable")[:k]]
    return best


def lists(user: np.ndarray, movie: np.ndarray, score: np.ndarray) -> Kept:
    """The best movies of some users.

    Args:
        user: int [users].
        movie: int [users, k], best first.
        score: float [users, k].
    """
    place = np.tile(np.arange(movie.shape[1], dtype=np.int8), len(user))
    columns: dict[str, np.ndarray] = {"place": place, "score": score.reshape(-1).astype(np.float32)}
    return Kept(name=LISTS, user=np.repeat(user, movie.shape[1]), movie=movie.reshape(-1), columns=columns)


def scored_rows(rows: "Interactions", label: np.ndarray, score: np.ndarray) -> Kept:
    """The rows of a split.

    Args:
        label, score: float [rows].
    """
    columns = {"label": label.astype(np.float32, copy=False), "score": score.astype(np.float32, copy=False)}
    return Kept(name=ROWS, user=rows.user.numpy(), movie=rows.movie.numpy(), columns=columns, has_times=True)
