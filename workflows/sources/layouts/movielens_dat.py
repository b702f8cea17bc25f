"""The layout of ML-1M and ML-10M: `.dat` files separated by two colons, without headers.

ML-1M is in Latin-1 and describes its users; ML-10M is in UTF-8 and does not.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, OCCUPATION, RAW_MOVIE, RAW_USER
from workflows.sources.frames import OLDEST, movies_frame, split_genres, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import read_ratings
from workflows.sources.text import text_rows

# ML-1M's README: the meaning of its occupation codes
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `movies.dat`."""
    rows = text_rows(path, "::", fields=3)
    return movies_frame([(row.number(0, RAW_MOVIE), row[1], split_genres(row[2])) for row in rows])


def read_users(path: Path) -> pd.DataFrame:
    """The users of `users.dat`: id, gender, age, occupation code, which becomes words, and zip code."""
    rows = []
    for row in text_rows(path, "::", fields=5):
        code = row.number(3, OCCUPATION, len(OCCUPATIONS) - 1)
        rows.append((row.number(0, RAW_USER), row[1], row.number(2, AGE, OLDEST), OCCUPATIONS[code]))
    return users_frame(rows)


LAYOUTS.add(
    "movielens-dat",
    Layout(
        "MovieLens 1M or 10M",
        ratings_file="ratings.dat",
        ratings=partial(read_ratings, separator="::"),
        movies_file="movies.dat",
        movies=read_movies,
        users_file="users.dat",
        users=read_users,
    ),
    position=30,
)
