"""A file of more ratings in MovieLens' CSV layout, read beside a dataset's own: what `ratings export` has written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.columns import RATING, RATINGS_COLUMNS, RAW_MOVIE, RAW_USER
from core.errors import UserError
from workflows.sources.ratings import read_ratings
from workflows.sources.read import Tables, check_ratings, drop_repeated

FEW = 3  # ids that a message names


def check_more(path: Path) -> None:
    """
    Raises:
        UserError: there is no such file, or nothing is in it.
    """
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"--more-ratings {path} {found}; write it with: python -m marquee ratings export")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; write it again with: python -m marquee ratings export")


def with_more(tables: Tables, path: Path) -> tuple[Tables, str]:
    """The tables with the ratings of a file after their own, and its users after their own by id.

    The movies stay as they are: a rating of any other movie is dropped. Of several ratings of one movie by one user the
    last by time counts; of two of one time that of the file. New users have no gender, age or occupation.

    Returns:
        The tables, with sentences about what is suspicious in the file among their notes; and how many ratings the file
        adds, in words.

    Raises:
        UserError: the file is malformed, or none of its movies is the dataset's.
    """
    ratings = read_ratings(path, ",", header=RATINGS_COLUMNS)
    check_ratings(ratings, path)
    ratings, notes = _of_known_movies(ratings, tables.movies, path)
    notes += _half_stars(ratings, tables.ratings, path)
    users = np.unique(ratings[RAW_USER].to_numpy())
    new = np.setdiff1d(users, tables.users[RAW_USER].to_numpy()).astype(np.int32)
    together, repeated = drop_repeated(pa.concat_tables([tables.ratings, ratings]))
    said = f"{len(ratings):,} ratings of {len(users):,} users, {len(new):,} of them new"
    if repeated:
        said += f" ({repeated:,} repeated ratings dropped, the last of each kept)"
    more = replace(tables, ratings=together, users=_with_users(tables.users, new), notes=(*tables.notes, *notes))
    return more, said


def _of_known_movies(ratings: pa.Table, movies: pd.DataFrame, path: Path) -> tuple[pa.Table, list[str]]:
    """The ratings of movies that the dataset has, and a sentence about the others."""
    known = pc.is_in(ratings[RAW_MOVIE], value_set=pa.array(movies[RAW_MOVIE].to_numpy()))
    kept = ratings.filter(known)
    if not len(kept):
        raise UserError(f"{path} rates no movie of the dataset; give the ratings that were exported from its own run")
    if len(kept) == len(ratings):
        return ratings, []
    unknown = pc.unique(ratings.filter(pc.invert(known))[RAW_MOVIE]).to_pylist()
    ids = ", ".join(map(str, unknown[:FEW])) + (f" and {len(unknown) - FEW:,} more" if len(unknown) > FEW else "")
    dropped = len(ratings) - len(kept)
    return kept, [f"{path} rates movies that the dataset does not have ({ids}): {dropped:,} ratings dropped"]


def _half_stars(ratings: pa.Table, own: pa.Table, path: Path) -> list[str]:
    """A sentence about other than whole stars, where the dataset's own are whole."""
    halves = len(ratings) - _whole(ratings)
    if not halves or _whole(own) < len(own):
        return []
    return [f"{path} has {halves:,} of {len(ratings):,} ratings in half stars, where the dataset's own are whole"]


def _whole(ratings: pa.Table) -> int:
    """How many of the ratings are whole stars."""
    return int(pc.sum(pc.equal(ratings[RATING], pc.floor(ratings[RATING]))).as_py())


def _with_users(users: pd.DataFrame, new: np.ndarray) -> pd.DataFrame:
    """The users and new ones, of whom no more than the id is known, sorted by id; each column keeps its type."""
    if not len(new):
        return users
    nullable = {name: str(kind).replace("int", "Int") for name, kind in users.dtypes.items() if kind.kind == "i"}
    added = pd.concat([users.astype(nullable), pd.DataFrame({RAW_USER: new})], ignore_index=True)
    return added.sort_values(RAW_USER, ignore_index=True).astype({RAW_USER: users[RAW_USER].dtype})
