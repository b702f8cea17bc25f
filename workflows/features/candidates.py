"""Sampled candidates: what a held-out movie is ranked among."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import LATER, MOVIE_INDEX, NEGATIVES, USER_INDEX
from core.constants import CANDIDATE_NEGATIVES
from workflows.features.vocabulary import FIRST_INDEX
from workflows.negatives import NegativeSampler
from workflows.splits.base import PARTS, read_split


def write_candidates(out: Path, movies: int, rng: np.random.Generator) -> None:
    """Per user of validation and of test the held-out movie, and 99 movies that the user has rated in no split.

    A user is asked about once: the held-out movie is the first, by time, that they rated in the part. The others are
    drawn once, from the seed, so that every model ranks the same candidates. A user with fewer unrated movies gets them
    all, and -1 after them.

    Args:
        out: the features of a split, where `candidates-valid.parquet` and `candidates-test.parquet` are written.
        movies: how many movies, from `FIRST_INDEX` on, are drawn from: those that have a rating in any split.
    """
    pairs = {part: _pairs(read_split(out, part, [USER_INDEX, MOVIE_INDEX])) for part in PARTS}
    user, movie = (np.concatenate(of) for of in zip(*pairs.values()))
    sampler = NegativeSampler(user, movie, FIRST_INDEX, movies)
    for part in ("valid", "test"):
        user, movie = pairs[part]
        first = _first_of_each(user, read_split(out, part, [LATER])[LATER].to_numpy())
        negatives = sampler.draw_distinct(user[first], CANDIDATE_NEGATIVES, rng).astype(np.int32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), CANDIDATE_NEGATIVES)
        table = pa.table({USER_INDEX: user[first], MOVIE_INDEX: movie[first], NEGATIVES: lists})
        pq.write_table(table, out / f"candidates-{part}.parquet")


def _first_of_each(user: np.ndarray, later: np.ndarray) -> np.ndarray:
    """The row of each user's first rating in a part, users ascending: int64 [users].

    Args:
        user: int [rows].
        later: int [rows], how many ratings the user gave after each.
    """
    order = np.lexsort((-later.astype(np.int64), user))
    return order[np.diff(user[order], prepend=-1) > 0]


def _pairs(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy()
