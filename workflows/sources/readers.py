"""MovieLens' file layouts, all into the same three tables.

`ratings` (pyarrow): `userId` int32, `movieId` int32, `rating` float32 (stars), `timestamp` int64 (Unix seconds, UTC),
in file order. `movies` (pandas): `movieId` int32, `title` str, `year` int16 (0 if unknown), `genres` list of str.
`users` (pandas): `userId` int32, and `gender`, `age`, `occupation` where the dataset has them.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from core.columns import (
    AGE,
    GENDER,
    GENRES,
    MOVIES_COLUMNS,
    OCCUPATION,
    RATING,
    RATINGS_COLUMNS,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    TITLE,
    YEAR,
)
from core.errors import UserError

LOWEST_RATING, HIGHEST_RATING = 0.5, 5.0
LARGEST_ID = 2**31 - 1
OLDEST = 150  # years
RATINGS_TYPES = {RAW_USER: pa.int32(), RAW_MOVIE: pa.int32(), RATING: pa.float32(), TIMESTAMP: pa.int64()}
YEAR_IN_TITLE = re.compile(r"\s*\((\d{4})\)\s*$")
NO_GENRES = "(no genres listed)"

# u.item's 19 flags, in the order of u.genre
ML_100K_GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
ATOMIC_HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")  # RecBole's typed names
ATOMIC_MOVIES_HEADER = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
ATOMIC_USERS_HEADER = ("user_id:token", "age:token", "gender:token", "occupation:token")
MOVIES_HEADER = (RAW_MOVIE, TITLE, GENRES)
# ML-1M's README: the meaning of its occupation codes
ML_1M_OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)


@dataclass
class Tables:
    """The canonical tables of a dataset, and how many repeated ratings were dropped on the way."""

    ratings: pa.Table
    movies: pd.DataFrame
    users: pd.DataFrame
    repeated: int = 0


@dataclass(frozen=True)
class Layout:
    """A file layout: the files that tell it, and the functions that read it."""

    name: str
    ratings_file: str
    movies_file: str
    ratings: Callable[[Path], pa.Table]
    movies: Callable[[Path], pd.DataFrame]
    users_file: str | None = None
    users: Callable[[Path], pd.DataFrame] | None = None


def read_tables(folder: Path) -> Tables:
    """Reads a MovieLens folder of any known layout.

    Raises:
        UserError: no known layout, a missing or empty file, a malformed row, or a rating outside 0.5 to 5 stars.
    """
    layout, folder = _find_layout(folder)
    for name in filter(None, (layout.ratings_file, layout.movies_file, layout.users_file)):
        path = folder / name
        if name == layout.users_file and not path.exists():  # not every release has details of its users
            continue
        if not path.is_file():
            raise UserError(
                f"{path} is missing; a {layout.name} folder has {layout.ratings_file} and {layout.movies_file}"
            )
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; copy it again from the dataset's zip")
    ratings = layout.ratings(folder / layout.ratings_file)
    _check_ratings(ratings, folder / layout.ratings_file)
    ratings, repeated = _drop_repeated(ratings)
    movies = _complete_movies(layout.movies(folder / layout.movies_file), ratings)
    users = pd.DataFrame({RAW_USER: _distinct(ratings, RAW_USER)})
    if layout.users and layout.users_file and (folder / layout.users_file).is_file():
        users = users.merge(layout.users(folder / layout.users_file), on=RAW_USER, how="left")
    return Tables(ratings, movies, users.astype({RAW_USER: "int32"}), repeated)


def _distinct(ratings: pa.Table, name: str) -> np.ndarray:
    """The values of a column, ascending; by hash, as sorting millions of rows takes seconds."""
    return np.sort(pc.unique(ratings[name]).to_numpy())


def _find_layout(folder: Path) -> tuple[Layout, Path]:
    """The layout of a folder, looking one level down too, as a zip unpacks into a folder of its own."""
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for layout in LAYOUTS:
            if any(candidate.glob(layout.ratings_file)):
                return layout, candidate
    known = ", ".join(layout.ratings_file for layout in LAYOUTS)
    raise UserError(f"{folder} holds no MovieLens ratings; expected one of {known} in it")


# -- delimited text ----------------------------------------------------------------------------------------------------


def _read_ratings(path: Path, separator: str, header: tuple[str, ...] | None = None) -> pa.Table:
    if header:
        with open(path, "rb") as file:
            if file.readline().rstrip().split(separator.encode()) != [name.encode() for name in header]:
                raise UserError(f"{path}: the first line must read {separator.join(header)}; copy the file again")
    source: pa.BufferReader | str = str(path)
    if len(separator) > 1:  # pyarrow splits at one character; MovieLens' fields hold no tab
        source = pa.BufferReader(path.read_bytes().replace(separator.encode(), b"\t"))
        separator = "\t"

    def parse(use_threads: bool) -> pa.Table:
        return pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(
                column_names=RATINGS_COLUMNS, skip_rows=1 if header else 0, use_threads=use_threads, block_size=1 << 24
            ),
            parse_options=pa_csv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=RATINGS_TYPES, null_values=[], strings_can_be_null=False
            ),
        )

    try:
        return parse(use_threads=True)
    except pa.ArrowInvalid:
        try:  # once more, as threads do not know the row's number
            if isinstance(source, pa.BufferReader):
                source.seek(0)
            return parse(use_threads=False)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: {_one_line(error)}; copy the file again from the dataset's zip") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("CSV parse error: ", "").replace("CSV conversion error to ", "not ")
    text = re.sub(r"In CSV column #\d+: ", "", text).replace("Row #", "row ")
    return text if len(text) <= 200 else text[:197] + "..."


def _check_ratings(ratings: pa.Table, path: Path) -> None:
    if not len(ratings):
        raise UserError(f"{path} holds no ratings; copy it again from the dataset's zip")
    outside = pc.or_kleene(pc.less(ratings[RATING], LOWEST_RATING), pc.greater(ratings[RATING], HIGHEST_RATING))
    outside = pc.or_(outside, pc.is_nan(ratings[RATING]))
    _refuse_first(ratings, path, outside, RATING, f"ratings go from {LOWEST_RATING} to {HIGHEST_RATING:g} stars")
    for name in (RAW_USER, RAW_MOVIE, TIMESTAMP):
        _refuse_first(ratings, path, pc.less(ratings[name], 0), name, "it cannot be negative")


def _refuse_first(ratings: pa.Table, path: Path, bad: pa.ChunkedArray, column: str, rule: str) -> None:
    position = pc.index(bad, True).as_py()
    if position >= 0:
        value = ratings[column][position].as_py()
        value = f"{value:g}" if column == RATING else value
        raise UserError(f"{path}: rating {position + 1} has {column} {value}; {rule}. Correct or remove that row")


def _drop_repeated(ratings: pa.Table) -> tuple[pa.Table, int]:
    """Keeps a user's last rating of a movie, by time and then file order: one pair in two splits would be a leak."""
    pair = ratings[RAW_USER].to_numpy().astype(np.int64) << 32 | ratings[RAW_MOVIE].to_numpy()
    if (pair[1:] > pair[:-1]).all() or len(np.unique(pair)) == len(pair):  # most releases are sorted
        return ratings, 0
    order = np.lexsort((np.arange(len(pair)), ratings[TIMESTAMP].to_numpy(), pair))
    last = np.append(np.diff(pair[order]) != 0, True)
    kept = np.sort(order[last])
    return ratings.take(pa.array(kept)), len(pair) - len(kept)


# -- movies ------------------------------------------------------------------------------------------------------------


def _movies_frame(rows: list[tuple[int, str, list[str]]]) -> pd.DataFrame:
    """Splits the year off `Toy Story (1995)`."""
    split = []
    for movie, title, genres in rows:
        year = YEAR_IN_TITLE.search(title)
        split.append((movie, YEAR_IN_TITLE.sub("", title).strip(), int(year[1]) if year else 0, genres))
    return pd.DataFrame(split, columns=list(MOVIES_COLUMNS))


def _text_rows(
    path: Path, separator: str, encoding: str, fields: int, header: tuple[str, ...] | None = None
) -> list[list[str]]:
    """The rows of a small delimited file, without its header.

    Raises:
        UserError: text in another encoding, another header, or a row with another number of fields, named by its line.
    """
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}); copy it again"
        ) from None
    rows: list[list[str]] = []
    for number, row in _numbered_rows(path, text, separator):
        if header and not rows:
            if row[: len(header)] != list(header):
                raise UserError(f"{path}: the first line must begin with {separator.join(header)}; copy the file again")
        elif len(row) != fields:
            raise UserError(f"{path}: line {number} has {len(row)} fields where {fields} were expected; copy it again")
        rows.append(row)
    return rows[1:] if header else rows


def _numbered_rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that they end on. Only comma-separated files quote; elsewhere quotes are part of the text."""
    if separator != ",":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.rstrip("\r").split(separator)
        return
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}: near line {reader.line_num}: {error} (a quote that never ends?); copy it again"
        ) from None


def _number(text: str, path: Path, what: str, highest: int = LARGEST_ID) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{path}: {what} {text[:40]!r} is not a whole number; copy the file again") from None
    if not 0 <= value <= highest:
        raise UserError(f"{path}: {what} {text[:40]} is not from 0 to {highest}; copy the file again")
    return value


def _complete_movies(movies: pd.DataFrame, ratings: pa.Table) -> pd.DataFrame:
    """Adds the movies that only the ratings know, drops repeats, sorts by id."""
    unknown = np.setdiff1d(_distinct(ratings, RAW_MOVIE), movies[RAW_MOVIE].to_numpy())
    if len(unknown):
        extra: list[tuple[int, str, int, list[str]]] = [(movie, f"Movie {movie}", 0, []) for movie in unknown.tolist()]
        movies = pd.concat([movies, pd.DataFrame(extra, columns=list(MOVIES_COLUMNS))], ignore_index=True)
    movies = movies.drop_duplicates(RAW_MOVIE).sort_values(RAW_MOVIE, ignore_index=True)
    return movies.astype({RAW_MOVIE: "int32", YEAR: "int16"})


def _genres(text: str) -> list[str]:
    return [] if text == NO_GENRES else [genre for genre in text.split("|") if genre]


# -- the layouts -------------------------------------------------------------------------------------------------------


def _csv_movies(path: Path) -> pd.DataFrame:
    rows = _text_rows(path, ",", "utf-8", 3, header=MOVIES_HEADER)
    return _movies_frame([(_number(row[0], path, RAW_MOVIE), row[1], _genres(row[2])) for row in rows])


def _dat_movies(path: Path) -> pd.DataFrame:
    encoding = "utf-8"  # ML-10M
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        encoding = "latin-1"  # ML-1M
    rows = _text_rows(path, "::", encoding, 3)
    return _movies_frame([(_number(row[0], path, RAW_MOVIE), row[1], _genres(row[2])) for row in rows])


def _dat_users(path: Path) -> pd.DataFrame:
    rows = []
    for user, gender, age, occupation, *_ in _text_rows(path, "::", "latin-1", 5):
        code = _number(occupation, path, OCCUPATION)
        if not 0 <= code < len(ML_1M_OCCUPATIONS):
            raise UserError(f"{path}: occupation {code} of user {user} is not one of 0 to {len(ML_1M_OCCUPATIONS) - 1}")
        rows.append((_number(user, path, RAW_USER), gender, _number(age, path, AGE, OLDEST), ML_1M_OCCUPATIONS[code]))
    return _users_frame(rows)


def _users_frame(rows: list[tuple[int, str, int, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[RAW_USER, GENDER, AGE, OCCUPATION]).drop_duplicates(RAW_USER)
    return frame.astype({RAW_USER: "int32", AGE: "int16"})


def _ml_100k_movies(path: Path) -> pd.DataFrame:
    rows = []
    for movie, title, _release, _video, _link, *flags in _text_rows(path, "|", "latin-1", 5 + len(ML_100K_GENRES)):
        genres = [genre for genre, flag in zip(ML_100K_GENRES, flags) if flag == "1" and genre != "unknown"]
        rows.append((_number(movie, path, RAW_MOVIE), title, genres))
    return _movies_frame(rows)


def _ml_100k_users(path: Path) -> pd.DataFrame:
    rows = _text_rows(path, "|", "latin-1", 5)
    return _users_frame([(_number(r[0], path, RAW_USER), r[2], _number(r[1], path, AGE, OLDEST), r[3]) for r in rows])


def _atomic_movies(path: Path) -> pd.DataFrame:
    rows = []
    for movie, title, year, genres in _text_rows(path, "\t", "utf-8", 4, header=ATOMIC_MOVIES_HEADER):
        kept = [genre for genre in genres.split() if genre != "unknown"]
        rows.append((_number(movie, path, RAW_MOVIE), title, int(year) if re.fullmatch("[0-9]{4}", year) else 0, kept))
    return pd.DataFrame(rows, columns=list(MOVIES_COLUMNS))


def _atomic_users(path: Path) -> pd.DataFrame:
    rows = _text_rows(path, "\t", "utf-8", 5, header=ATOMIC_USERS_HEADER)
    return _users_frame([(_number(r[0], path, RAW_USER), r[2], _number(r[1], path, AGE, OLDEST), r[3]) for r in rows])


LAYOUTS = (
    Layout(
        "MovieLens CSV (20M, 25M, 32M, latest)",
        "ratings.csv",
        "movies.csv",
        partial(_read_ratings, separator=",", header=RATINGS_COLUMNS),
        _csv_movies,
    ),
    Layout(
        "MovieLens 100K",
        "u.data",
        "u.item",
        partial(_read_ratings, separator="\t"),
        _ml_100k_movies,
        "u.user",
        _ml_100k_users,
    ),
    Layout(
        "MovieLens 1M or 10M",
        "ratings.dat",
        "movies.dat",
        partial(_read_ratings, separator="::"),
        _dat_movies,
        "users.dat",  # ML-10M has none
        _dat_users,
    ),
    Layout(
        "RecBole's ml-100k",
        "ml-100k.inter",
        "ml-100k.item",
        partial(_read_ratings, separator="\t", header=ATOMIC_HEADER),
        _atomic_movies,
        "ml-100k.user",
        _atomic_users,
    ),
)
