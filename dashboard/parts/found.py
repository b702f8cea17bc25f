"""Movies of the catalogue as rows, and the field that finds them."""

from collections.abc import Sequence

import streamlit as st

from dashboard.parts.movies import Movie
from dashboard.shared import catalogue


def search_field(label: str, key: str, example: str) -> str:
    """A field for words of a title.

    Args:
        example: shown where the field is empty.
    """
    return st.text_input(label, key=key, placeholder=example, persist_state="session")


def plain_rows(movie_ids: Sequence[int], stars: dict[int, float] | None = None) -> list[Movie]:
    """Rows with title, genres and any stars that were given."""
    movies = catalogue()
    given = stars or {}
    return [
        Movie(id=one, title=movies.title(one), genres=movies.genres_of(one), stars=given.get(one, 0.0))
        for one in movie_ids
    ]


def counted(number: int, what: str) -> str:
    """A number with its noun, such as `1 movie` or `1,682 movies`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
