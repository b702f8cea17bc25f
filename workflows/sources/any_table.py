"""Anybody's table of who chose what, in CSV or Parquet, as the canonical tables: its columns are named by the user.

Ids may be of any type. Where they are not whole numbers from 0 to 2^31 - 1, the canonical tables number them in order,
and keep them as they were in the column `id` of movies and users: what is served takes and gives those.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from core.columns import (
    GENRES,
    ORIGINAL_ID,
    RATINGS_COLUMNS,
    RAW_MOVIE,
    RAW_USER,
    TITLE,
    YEAR,
)
from core.errors import UserError, one_line
from workflows.sources.fit import days_only
from workflows.sources.frames import movies_frame, split_genres
from workflows.sources.ratings import HIGHEST_RATING, LOWEST_RATING
from workflows.sources.read import Tables, check_ratings, clean_movies, drop_repeated
from workflows.sources.table_columns import PARQUET, SEPARATORS, Columns, guessed
from workflows.sources.text import LARGEST_ID

LONGEST_ID = 256  # bytes
WHOLE = "^(0|-?[1-9][0-9]{0,18})$"  # no 007, which is not 7 where ids are text
EVERY_STARS = 5.0  # of a row, where the table has no ratings


def suggestion(path: Path) -> str:
    """A sentence that offers `--columns` by the names of a table's columns.

    Raises:
        UserError: the file cannot be read.
    """
    names = _schema(path)
    there = f"its columns are {', '.join(map(_column, names[:12]))}{' and more' if len(names) > 12 else ''}"
    guess = guessed(names)
    if guess is None:
        return f"{there}; say which is which: --columns user=NAME,item=NAME, and rating, time, title and genres"
    return f"{there}; say which is which, for example: --columns {guess}"


def read_table(path: Path, columns: Columns) -> Tables:
    """Reads a table.

    Raises:
        UserError: the file is not such a table, has no such column, or a value that cannot be; the row is named.
    """
    table = _read(path, columns)
    if not len(table):
        raise UserError(f"{path} holds no rows")
    user, users = _ids(path, columns.user, table)
    item, items = _ids(path, columns.item, table)
    stars = np.full(len(table), EVERY_STARS, np.float32)
    if columns.rating:
        stars = _stars(path, columns.rating, table)
    time = _times(path, columns.time, table) if columns.time else np.arange(len(table))
    ratings = pa.table(dict(zip(RATINGS_COLUMNS, (user, item, pa.array(stars), pa.array(time, pa.int64())))))
    check_ratings(ratings, path)
    movies = clean_movies(_movies(path, columns, table, ratings, items), path)
    movies = movies.astype({RAW_MOVIE: "int32", YEAR: "int16"}).sort_values(RAW_MOVIE, ignore_index=True)
    people = pd.DataFrame({RAW_USER: np.unique(user.to_numpy())})
    notes = _notes(columns) + (days_only(ratings) if columns.time else [])
    ratings, repeated = drop_repeated(ratings)
    return Tables(
        ratings, _with_ids(movies, RAW_MOVIE, items), _with_ids(people, RAW_USER, users), repeated, tuple(notes)
    )


# -- the file ----------------------------------------------------------------------------------------------------------


def _separator(path: Path) -> str:
    return SEPARATORS[Path(path.name.lower().removesuffix(".gz")).suffix]


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def require_file(path: Path) -> None:
    """Raises a UserError unless there is such a file."""
    if not path.is_file():
        raise UserError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; give a CSV or Parquet file")


def _schema(path: Path) -> list[str]:
    """The names of a file's columns."""
    require_file(path)
    if not path.stat().st_size:
        raise UserError(f"{path} is empty")
    try:
        if _is_parquet(path):
            return list(pq.read_schema(path).names)
        with pa_csv.open_csv(path, parse_options=pa_csv.ParseOptions(delimiter=_separator(path))) as file:
            return list(file.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _read(path: Path, columns: Columns) -> pa.Table:
    """The columns that are named; of CSV all as text, but for the rating and the time."""
    names = _schema(path)
    for name in columns.named:
        if names.count(name) != 1:
            what = "no column" if name not in names else "several columns"
            raise UserError(f"{path} has {what} {_column(name)}; {suggestion(path)}")
    try:
        if _is_parquet(path):
            return pq.read_table(path, columns=list(columns.named))
        texts = {name: pa.string() for name in (columns.user, columns.item, columns.title, columns.genres) if name}
        return pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(delimiter=_separator(path), newlines_in_values=bool(columns.title)),
            convert_options=pa_csv.ConvertOptions(
                column_types=texts | ({columns.rating: pa.float64()} if columns.rating else {}),
                include_columns=list(columns.named),
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    kind = "Parquet" if _is_parquet(path) else "CSV in UTF-8 with a header"
    return UserError(f"{path} cannot be read as {kind}: {one_line(error)}")


def _column(name: str) -> str:
    return name if re.fullmatch(r"[\w .:-]+", name) else repr(name)


def _refuse(path: Path, row: int, name: str, what: str, remedy: str) -> UserError:
    return UserError(f"{path}: row {row + 1} has {what} in {_column(name)}; {remedy}")


def _refuse_nulls(path: Path, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        raise _refuse(path, pc.index(pc.is_null(column), True).as_py(), name, "nothing", "fill or remove it")


# -- ids ---------------------------------------------------------------------------------------------------------------


def _ids(path: Path, name: str, table: pa.Table) -> tuple[pa.Array, pa.Array | None]:
    """The ids as int32, and what each number from 0 stands for: int64 or text, ascending; None where they are ids.

    Raises:
        UserError: ids of another type, nothing in the place of one, or one that is empty or too long.
    """
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    _refuse_nulls(path, name, column)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string()) if column.type == pa.uint64() else column.cast(pa.int64())
    elif pa.types.is_floating(column.type):
        whole = pc.equal(column, pc.floor(column))
        if not pc.all(pc.and_(whole, pc.less(pc.abs(column), 2.0**53))).as_py():
            raise UserError(f"{path}: {_column(name)} holds fractions; ids are whole numbers or text")
        column = column.cast(pa.int64())
    elif not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(f"{path}: {_column(name)} is of type {column.type}; ids are whole numbers or text")
    if not pa.types.is_integer(column.type):
        column = _from_text(path, name, column.cast(pa.string()))
    if pa.types.is_integer(column.type):
        limits = pc.min_max(column).as_py()
        if limits["min"] >= 0 and limits["max"] <= LARGEST_ID:
            return column.cast(pa.int32()), None
    distinct = pc.unique(column)
    distinct = distinct.take(pc.sort_indices(distinct))
    return pc.index_in(column, value_set=distinct).cast(pa.int32()), distinct


def _from_text(path: Path, name: str, column: pa.Array) -> pa.Array:
    """Whole numbers where all are; else the text."""
    length = pc.binary_length(column)
    limits = pc.min_max(length).as_py()
    if limits["min"] == 0:
        raise _refuse(path, pc.index(length, 0).as_py(), name, "nothing", "fill or remove it")
    if limits["max"] > LONGEST_ID:
        row = pc.index(pc.greater(length, LONGEST_ID), True).as_py()
        raise _refuse(path, row, name, f"an id of {length[row]} bytes", f"an id may have {LONGEST_ID}")
    if pc.all(pc.match_substring_regex(column, WHOLE)).as_py():
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits
            pass
    return column


def _with_ids(frame: pd.DataFrame, raw: str, ids: pa.Array | None) -> pd.DataFrame:
    """The frame with the ids as they were, where its own are numbers in their place."""
    return frame if ids is None else frame.assign(**{ORIGINAL_ID: ids.take(pa.array(frame[raw])).to_pandas()})


# -- the other columns -------------------------------------------------------------------------------------------------


def _stars(path: Path, name: str, table: pa.Table) -> np.ndarray:
    """float32 [rows]."""
    column = table[name]
    _refuse_nulls(path, name, column)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise UserError(f"{path}: {_column(name)} is of type {column.type}; ratings are numbers")
    stars = column.cast(pa.float64()).to_numpy()
    outside = ~((stars >= LOWEST_RATING) & (stars <= HIGHEST_RATING))
    if outside.any():
        row = int(outside.argmax())
        remedy = f"bring the ratings to {LOWEST_RATING} to {HIGHEST_RATING:g} stars, or leave rating out of --columns"
        raise _refuse(path, row, name, f"{stars[row]:g}", remedy)
    return stars.astype(np.float32)


def _times(path: Path, name: str, table: pa.Table) -> np.ndarray:
    """Seconds since 1970, int64 [rows]; fractions of a second are cut off."""
    column = table[name]
    _refuse_nulls(path, name, column)
    if pa.types.is_floating(column.type):
        return np.floor(column.to_numpy()).astype(np.int64)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        column = column.cast(pa.timestamp("s", zone), safe=False)
    elif not pa.types.is_integer(column.type):
        raise UserError(
            f"{path}: {_column(name)} is of type {column.type}; times are seconds since 1970, or like 2026-11-27 18:30"
        )
    return np.asarray(column.cast(pa.int64()).to_numpy())


def _movies(path: Path, columns: Columns, table: pa.Table, ratings: pa.Table, items: pa.Array | None) -> pd.DataFrame:
    """A row per item: the title and genres in the first of its rows; without a title column, its id is its title."""
    first = np.unique(ratings[RAW_MOVIE].to_numpy(), return_index=True)
    ids, rows = first[0].tolist(), pa.array(first[1])
    names = [str(one) for one in (ids if items is None else items.take(pa.array(first[0])).to_pylist())]
    if columns.title:
        found = _texts(path, columns.title, table, rows)
        names = [title or name for title, name in zip(found, names)]
    genres = _texts(path, columns.genres, table, rows) if columns.genres else [""] * len(ids)
    return movies_frame([(one, name, split_genres(text)) for one, name, text in zip(ids, names, genres)])


def _texts(path: Path, name: str, table: pa.Table, rows: pa.Array) -> list[str]:
    column = table[name].take(rows)
    try:
        return [text or "" for text in column.cast(pa.string()).to_pylist()]
    except pa.ArrowException:
        raise UserError(f"{path}: {_column(name)} is of type {column.type}; {TITLE} and {GENRES} are text") from None


def _notes(columns: Columns) -> list[str]:
    """What is assumed where the table does not say it."""
    notes = []
    if not columns.rating:
        notes.append(
            "there are no ratings: every row counts as 5 stars, so there is nothing to learn but what comes next "
            "(leave-one-out, temporal)"
        )
    if not columns.time:
        notes.append("there is no time: rows count as given one after the other, in the order of the file")
    return notes
