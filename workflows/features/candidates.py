"""Sampled candidates: what a held-out movie is ranked among."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import MOVIE_INDEX, NEGATIVES, USER_INDEX
from core.constants import CANDIDATE_NEGATIVES
from workflows.features.vocabulary import FIRST_INDEX
from workflows.negatives import NegativeSampler
from workflows.splits.base import PARTS, read_split


def write_candidates(out: Path, movies: int, rng: np.random.Generator) -> None:
    """Per validation and test row the held-out movie, and 99 movies that the user has rated in no split.

    Drawn once, from the seed, so that every model ranks the same candidates. A user with fewer unrated movies gets them
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
        order = np.argsort(user, kind="stable")
        negatives = sampler.draw_distinct(user[order], CANDIDATE_NEGATIVES, rng).astype(np.int32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), CANDIDATE_NEGATIVES)
        table = pa.table({USER_INDEX: user[order], MOVIE_INDEX: movie[order], NEGATIVES: lists})
        pq.write_table(table, out / f"candidates-{part}.parquet")


def _pairs(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy()
