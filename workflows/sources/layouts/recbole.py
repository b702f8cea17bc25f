"""RecBole's copy of ML-100K: "atomic" files separated by tabs, with typed column names, in UTF-8."""

import re
from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, MOVIES_COLUMNS, RAW_MOVIE, RAW_USER
from workflows.sources.frames import OLDEST, plausible_year, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import read_ratings
from workflows.sources.text import text_rows

RATINGS_HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
MOVIES_HEADER = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
USERS_HEADER = ("user_id:token", "age:token", "gender:token", "occupation:token")  # and a zip code


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `ml-100k.item`, whose titles carry no year."""
    rows = []
    for row in text_rows(path, "\t", fields=4, header=MOVIES_HEADER):
        known = [genre for genre in row[3].split() if genre != "unknown"]
        year = int(row[2]) if re.fullmatch("[0-9]{4}", row[2]) else 0
        rows.append((row.number(0, RAW_MOVIE), row[1], plausible_year(year), known))
    return pd.DataFrame(rows, columns=list(MOVIES_COLUMNS))


def read_users(path: Path) -> pd.DataFrame:
    """The users of `ml-100k.user`: id, age, gender, occupation, zip code."""
    rows = text_rows(path, "\t", fields=5, header=USERS_HEADER)
    return users_frame([(row.number(0, RAW_USER), row[2], row.number(1, AGE, OLDEST), row[3]) for row in rows])


LAYOUTS.add(
    "recbole",
    Layout(
        "RecBole's ml-100k",
        ratings_file="ml-100k.inter",
        ratings=partial(read_ratings, separator="\t", header=RATINGS_HEADER),
        movies_file="ml-100k.item",
        movies=read_movies,
        users_file="ml-100k.user",
        users=read_users,
    ),
    position=40,
)
