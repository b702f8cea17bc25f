"""MovieLens' CSV layout: `ratings.csv` and `movies.csv` with headers, in UTF-8, quoted where needed."""

from functools import partial
from pathlib import Path

import pandas as pd

from core.columns import GENRES, RATINGS_COLUMNS, RAW_MOVIE, TITLE
from workflows.sources.frames import movies_frame, split_genres
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import read_ratings
from workflows.sources.text import text_rows

MOVIES_HEADER = (RAW_MOVIE, TITLE, GENRES)


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `movies.csv`."""
    rows = text_rows(path, ",", fields=3, header=MOVIES_HEADER)
    return movies_frame([(row.number(0, RAW_MOVIE), row[1], split_genres(row[2])) for row in rows])


LAYOUTS.add(
    "movielens-csv",
    Layout(
        "MovieLens CSV (20M, 25M, 32M, latest)",
        ratings_file="ratings.csv",
        ratings=partial(read_ratings, separator=",", header=RATINGS_COLUMNS),
        movies_file="movies.csv",
        movies=read_movies,
    ),
    position=10,
)
