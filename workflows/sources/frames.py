"""Rows that a layout's reader has found, as the canonical movies and users tables."""

import re

import pandas as pd

from core.columns import AGE, GENDER, MOVIES_COLUMNS, OCCUPATION, RAW_USER

OLDEST = 150  # years of age
NO_GENRES = "(no genres listed)"
YEAR_IN_TITLE = re.compile(r"\s*\((\d{4})\)\s*$")


def movies_frame(rows: list[tuple[int, str, list[str]]]) -> pd.DataFrame:
    """The movies table from (movie id, title, genres), with the year split off `Toy Story (1995)`; 0 without one."""
    split = []
    for movie, title, genres in rows:
        year = YEAR_IN_TITLE.search(title)
        split.append((movie, YEAR_IN_TITLE.sub("", title).strip(), int(year[1]) if year else 0, genres))
    return pd.DataFrame(split, columns=list(MOVIES_COLUMNS))


def users_frame(rows: list[tuple[int, str, int, str]]) -> pd.DataFrame:
    """The users table from (user id, gender, age, occupation), the first row of each user."""
    frame = pd.DataFrame(rows, columns=[RAW_USER, GENDER, AGE, OCCUPATION]).drop_duplicates(RAW_USER)
    return frame.astype({RAW_USER: "int32", AGE: "int16"})


def split_genres(text: str) -> list[str]:
    """The genres of `Action|Crime`; none for MovieLens' `(no genres listed)`.

    >>> split_genres("Action|Crime")
    ['Action', 'Crime']
    """
    return [] if text == NO_GENRES else [genre for genre in text.split("|") if genre]
