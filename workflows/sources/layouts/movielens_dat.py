"""The layout of ML-1M and ML-10M: `.dat` files separated by two colons, without headers.

ML-1M is in Latin-1 and describes its users; ML-10M is in UTF-8 and does not.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, OCCUPATION, RAW_MOVIE, RAW_USER
from core.errors import UserError
from workflows.sources.frames import OLDEST, movies_frame, split_genres, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.text import read_ratings, text_rows, whole_number

# ML-1M's README: the meaning of its occupation codes
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `movies.dat`, in whichever of the two encodings it is."""
    encoding = "utf-8"
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        encoding = "latin-1"
    rows = text_rows(path, "::", encoding=encoding, fields=3)
    return movies_frame([(whole_number(row[0], path, RAW_MOVIE), row[1], split_genres(row[2])) for row in rows])


def read_users(path: Path) -> pd.DataFrame:
    """The users of `users.dat`, their occupation codes in words."""
    rows = []
    for user, gender, age, occupation, _zip_code in text_rows(path, "::", encoding="latin-1", fields=5):
        code = whole_number(occupation, path, OCCUPATION)
        if code >= len(OCCUPATIONS):
            raise UserError(f"{path}: occupation {code} of user {user} is not one of 0 to {len(OCCUPATIONS) - 1}")
        number = whole_number(user, path, RAW_USER)
        rows.append((number, gender, whole_number(age, path, AGE, OLDEST), OCCUPATIONS[code]))
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
