"""ML-100K's layout: `u.data` separated by tabs, `u.item` and `u.user` by bars, no headers, published in Latin-1."""

from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import AGE, RAW_MOVIE, RAW_USER
from workflows.sources.frames import OLDEST, movies_frame, users_frame
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import read_ratings
from workflows.sources.text import shown, text_rows

# u.item's 19 flags, in the order of u.genre
FLAGS = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `u.item`."""
    rows = []
    for row in text_rows(path, "|", fields=5 + len(FLAGS)):
        flags = row[5:]
        for genre, flag in zip(FLAGS, flags):
            if flag not in ("0", "1"):
                row.refuse(f"has the flag {shown(flag)} for {genre}, which is not 0 or 1")
        genres = [genre for genre, flag in zip(FLAGS, flags) if flag == "1" and genre != "unknown"]
        rows.append((row.number(0, RAW_MOVIE), row[1], genres))
    return movies_frame(rows)


def read_users(path: Path) -> pd.DataFrame:
    """The users of `u.user`: id, age, gender, occupation, zip code."""
    rows = text_rows(path, "|", fields=5)
    return users_frame([(row.number(0, RAW_USER), row[2], row.number(1, AGE, OLDEST), row[3]) for row in rows])


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
