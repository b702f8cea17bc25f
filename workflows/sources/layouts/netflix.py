"""The Netflix Prize's layout, as it is passed on today: `combined_data_1.txt` to `_4.txt`, and `movie_titles.csv`.

A line `8:` opens the ratings of movie 8, each `user,stars,date`. Titles are in Latin-1, after the movie's id and
year; they run to the end of the line, commas included. Days are all that is known of the time (Bennett and Lanning,
"The Netflix Prize", KDD Cup 2007).
"""

import mmap
import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from core.columns import MOVIES_COLUMNS, RATING, RATINGS_COLUMNS, RAW_MOVIE, RAW_USER, TIMESTAMP
from core.errors import UserError
from workflows.sources.frames import plausible_year
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import BLOCK_BYTES, LENIENT, RATINGS_TYPES, lines_of, out_of_range, refuse_field
from workflows.sources.text import LARGEST_ID, refuse, refuse_utf_16, shown, text_rows

OPENING = re.compile("([0-9]{1,18}):")
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
FIELDS = {RAW_USER: RATINGS_TYPES[RAW_USER], RATING: RATINGS_TYPES[RATING], TIMESTAMP: pa.timestamp("s")}


def read_ratings(path: Path) -> pa.Table:
    """The ratings of one file, in its order: by movie. The time is midnight UTC of the day.

    Raises:
        UserError: a rating before any movie, a malformed line, stars, an id or a day out of range, named by its line.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        refuse_utf_16(path, content[:2])
        if any(content.find(one) >= 0 for one in LENIENT):
            _refuse_malformed(path)
    opened: list[tuple[int, int]] = []  # the first rating of a movie, counted from 0, and the movie

    def opens(row: pa_csv.InvalidRow) -> str:
        found = OPENING.fullmatch(row.text)
        if not found or int(found[1]) > LARGEST_ID:
            return "error"
        opened.append((row.number - 1 - len(opened), int(found[1])))
        return "skip"

    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=list(FIELDS), block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pa_csv.ParseOptions(quote_char=False, invalid_row_handler=opens),  # numbers rows if alone
            convert_options=pa_csv.ConvertOptions(column_types=FIELDS, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        _refuse_malformed(path)
        raise UserError(f"{path}: {shown(' '.join(str(error).split()))}; copy the file again") from None
    starts, movies = zip(*opened) if opened else ((), ())
    if len(table) and (not starts or starts[0] > 0):
        _refuse_malformed(path)
    movie = np.repeat(np.array(movies, np.int32), np.diff([*starts, len(table)]) if starts else 0)
    columns = {RAW_MOVIE: pa.array(movie), TIMESTAMP: table[TIMESTAMP].cast(pa.int64())}
    table = pa.table({name: columns.get(name, table[name] if name in FIELDS else None) for name in RATINGS_COLUMNS})
    if bad := out_of_range(table):
        row, what, remedy = bad
        ratings = (number for number, line in lines_of(path) if not OPENING.fullmatch(line))
        refuse(path, next(number for n, number in enumerate(ratings) if n == row), what, remedy)
    return table


def read_movies(path: Path) -> pd.DataFrame:
    """The movies of `movie_titles.csv`: id, year or NULL, and title; genres are not known."""
    rows: list[tuple[int, str, int, list[str]]] = []
    for row in text_rows(path, ",", fields=3, rest=True):
        year = int(row[1]) if re.fullmatch("[0-9]{4}", row[1]) else 0
        rows.append((row.number(0, RAW_MOVIE), row[2], plausible_year(year), []))
    return pd.DataFrame(rows, columns=list(MOVIES_COLUMNS))


def _refuse_malformed(path: Path) -> None:
    """Names the first line that is neither a movie's nor a rating; does nothing where there is none."""
    movie = None
    for number, line in lines_of(path):
        if line.endswith(":") and "," not in line:
            movie = line[:-1]
            refuse_field(path, number, RAW_MOVIE, movie)
            if not OPENING.fullmatch(line):
                refuse(path, number, f"has {RAW_MOVIE} {movie}; it cannot be negative", "correct or remove it")
            continue
        fields = line.split(",")
        if len(fields) != len(FIELDS):
            found = f"has {len(fields)} fields ({shown(line)}) where a movie's line (8:) or {len(FIELDS)} were expected"
            refuse(path, number, found)
        for name, text in zip((RAW_USER, RATING), fields):
            refuse_field(path, number, name, text)
        if not _is_day(fields[2]):
            refuse(path, number, f"has {TIMESTAMP} {shown(fields[2])}, which is not a day like 2005-09-06")
        if movie is None:
            refuse(path, number, "is a rating before any movie's line (8:)", "copy the file again")


def _is_day(text: str) -> bool:
    try:
        return bool(DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


LAYOUTS.add(
    "netflix",
    Layout(
        "Netflix Prize",
        ratings_file="combined_data_1.txt",
        more_ratings_files=("combined_data_2.txt", "combined_data_3.txt", "combined_data_4.txt"),
        ratings=read_ratings,
        movies_file="movie_titles.csv",
        movies=read_movies,
    ),
    position=50,
)
