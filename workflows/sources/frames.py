"""Rows that a layout's reader has found, as the canonical movies and users tables."""

import re
from datetime import date

import pandas as pd

from core.columns import AGE, GENDER, MOVIES_COLUMNS, OCCUPATION, RAW_USER
from workflows.sources.text import clean_text

OLDEST = 150  # years of age
FIRST_FILM = 1870
AHEAD = 5  # years by which a film may be announced
NO_GENRES = "(no genres listed)"
YEAR_IN_TITLE = re.compile(r"\s*\(([0-9]{4})\)\s*$")


def movies_frame(rows: list[tuple[int, str, list[str]]]) -> pd.DataFrame:
    """The movies table from (movie id, title, genres), with the year split off `Toy Story (1995)`; 0 without one.

    A number that can be no film's year, such as `(9999)`, stays a part of the title.
    """
    split = []
    for movie, title, genres in rows:
        title = clean_text(title)
        found = YEAR_IN_TITLE.search(title)
        year = plausible_year(int(found[1])) if found else 0
        split.append((movie, YEAR_IN_TITLE.sub("", title) if year else title, year, genres))
    return pd.DataFrame(split, columns=list(MOVIES_COLUMNS))


def plausible_year(year: int) -> int:
    """A film's year, or 0 where there were no films, or are none yet.

    >>> plausible_year(1995), plausible_year(9999), plausible_year(3)
    (1995, 0, 0)
    """
    return year if FIRST_FILM <= year <= date.today().year + AHEAD else 0


def users_frame(rows: list[tuple[int, str, int, str]]) -> pd.DataFrame:
    """The users table from (user id, gender, age, occupation), the first row of each user."""
    frame = pd.DataFrame(rows, columns=[RAW_USER, GENDER, AGE, OCCUPATION]).drop_duplicates(RAW_USER)
    return frame.astype({RAW_USER: "int32", AGE: "int16"})


def clean_category(text: object) -> object:
    """A gender or occupation, cleaned; None where nothing is left of it. What is not text stays as it is."""
    return (clean_text(text) or None) if isinstance(text, str) else text


def split_genres(text: str) -> list[str]:
    """The genres of `Action|Crime`; none for MovieLens' `(no genres listed)`.

    >>> split_genres("Action|Crime")
    ['Action', 'Crime']
    """
    return [] if text.strip() == NO_GENRES else clean_genres(text.split("|"))


def clean_genres(genres: list[str]) -> list[str]:
    """Each genre once, cleaned, without those of which nothing is left.

    >>> clean_genres(["Drama", " War ", "", "Drama"])
    ['Drama', 'War']
    """
    return list(dict.fromkeys(filter(None, map(clean_text, genres))))
