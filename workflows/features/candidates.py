"""Sampled candidates: what a held-out movie is ranked among."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import LATER, MOVIE_INDEX, NEGATIVES, NOT_BEFORE, USER_INDEX
from core.constants import CANDIDATE_NEGATIVES
from workflows.features.vocabulary import FIRST_INDEX
from workflows.negatives import NegativeSampler
from workflows.splits.base import PARTS, read_split


def write_candidates(out: Path, movies: int, rng: np.random.Generator) -> None:
    """Per user of validation and of test the held-out movie, 99 movies that the user has rated in no split, and
    `NOT_BEFORE` of the held-out one.

    A user is asked about once: the held-out movie is the first, by time, that they rated in the part. The others are
    drawn once, from the seed, so that every model ranks the same candidates. A user with fewer unrated movies gets them
    all, and -1 after them.

    Args:
        out: the features of a split, where `candidates-valid.parquet` and `candidates-test.parquet` are written.
        movies: how many movies, from `FIRST_INDEX` on, are drawn from: those that have a rating in any split.
    """
    rows = {part: _columns(read_split(out, part, [USER_INDEX, MOVIE_INDEX, NOT_BEFORE, LATER])) for part in PARTS}
    user, movie, *_ = (np.concatenate(of) for of in zip(*rows.values()))
    sampler = NegativeSampler(user, movie, FIRST_INDEX, movies)
    for part in ("valid", "test"):
        user, movie, not_before, later = rows[part]
        first = _first_of_each(user, later)
        negatives = sampler.draw_distinct(user[first], CANDIDATE_NEGATIVES, rng).astype(np.int32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), CANDIDATE_NEGATIVES)
        columns = {USER_INDEX: user, MOVIE_INDEX: movie, NOT_BEFORE: not_before}
        table = pa.table({**{name: column[first] for name, column in columns.items()}, NEGATIVES: lists})
        pq.write_table(table, out / f"candidates-{part}.parquet")


def _columns(table: pa.Table) -> tuple[np.ndarray, ...]:
    return tuple(column.to_numpy() for column in table.columns)


def _first_of_each(user: np.ndarray, later: np.ndarray) -> np.ndarray:
    """The row of each user's first rating in a part, users ascending: int64 [users].

    Args:
        user: int [rows].
        later: int [rows], how many ratings the user gave after each.
    """
    order = np.lexsort((-later.astype(np.int64), user))
    return order[np.diff(user[order], prepend=-1) > 0]
