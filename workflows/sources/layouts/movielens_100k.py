"""ML-100K's layout: `u.data` separated by tabs, `u.item` and `u.user` by bars, without headers, in Latin-1."""

from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, RAW_MOVIE, RAW_USER
from workflows.sources.frames import OLDEST, movies_frame, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.text import read_ratings, text_rows, whole_number

# u.item's 19 flags, in the order of u.genre
FLAGS = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `u.item`."""
    rows = []
    for movie, title, _release, _video, _link, *flags in text_rows(
        path, "|", encoding="latin-1", fields=5 + len(FLAGS)
    ):
        genres = [genre for genre, flag in zip(FLAGS, flags) if flag == "1" and genre != "unknown"]
        rows.append((whole_number(movie, path, RAW_MOVIE), title, genres))
    return movies_frame(rows)


def read_users(path: Path) -> pd.DataFrame:
    """The users of `u.user`."""
    rows = []
    for user, age, gender, occupation, _zip_code in text_rows(path, "|", encoding="latin-1", fields=5):
        rows.append((whole_number(user, path, RAW_USER), gender, whole_number(age, path, AGE, OLDEST), occupation))
    return users_frame(rows)


LAYOUTS.add(
    "movielens-100k",
    Layout(
        "MovieLens 100K",
        ratings_file="u.data",
        ratings=partial(read_ratings, separator="\t"),
        movies_file="u.item",
        movies=read_movies,
        users_file="u.user",
        users=read_users,
    ),
    position=20,
)
