"""RecBole's copy of ML-100K: "atomic" files separated by tabs, with typed column names, in UTF-8."""

import re
from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, MOVIES_COLUMNS, RAW_MOVIE, RAW_USER
from workflows.sources.frames import OLDEST, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.text import read_ratings, text_rows, whole_number

RATINGS_HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
MOVIES_HEADER = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
USERS_HEADER = ("user_id:token", "age:token", "gender:token", "occupation:token")  # and a zip code


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `ml-100k.item`, whose titles carry no year."""
    rows = []
    for movie, title, year, genres in text_rows(path, "\t", encoding="utf-8", fields=4, header=MOVIES_HEADER):
        known = [genre for genre in genres.split() if genre != "unknown"]
        number = whole_number(movie, path, RAW_MOVIE)
        rows.append((number, title, int(year) if re.fullmatch("[0-9]{4}", year) else 0, known))
    return pd.DataFrame(rows, columns=list(MOVIES_COLUMNS))


def read_users(path: Path) -> pd.DataFrame:
    """The users of `ml-100k.user`."""
    rows = []
    for user, age, gender, occupation, _zip_code in text_rows(
        path, "\t", encoding="utf-8", fields=5, header=USERS_HEADER
    ):
        rows.append((whole_number(user, path, RAW_USER), gender, whole_number(age, path, AGE, OLDEST), occupation))
    return users_frame(rows)


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
