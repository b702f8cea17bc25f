"""The answers of `recommend`, `similar` and `score` as tables: movies by their titles. Long titles wrap."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from core.columns import MOVIE_ID, RATING, RAW_MOVIE, RAW_USER, TIMESTAMP, TITLE, YEAR
from core.errors import UserError
from core.run_folder import Run
from core.terminal import data_text
from marquee.exported import Exported


def recommendations_table(
    source: Run | Exported, user: int, history: list[int], movies: np.ndarray, scores: np.ndarray, known: bool
) -> Table:
    """The recommended movies, best first, next to as many that the user rated highest.

    For a new user next to the movies of their history; alone where the answer is not personal, or where the ratings
    are not there, as in an exported repository.
    """
    liked = _liked(source, user, len(movies)) if isinstance(source, Run) else []
    titles = _titles(source, [*movies.tolist(), *history, *(movie for movie, _ in liked)])
    rated = bool(liked)
    name = f"user {user}" if rated else "you"
    if not rated:
        liked = [(movie, None) for movie in reversed(history) if movie in titles]
    table = _table()
    _add_column(table, "")
    _add_title_column(table, "recommended by Triton" if known else "most popular: Triton does not know this person")
    _add_column(table, "score")
    if liked:
        _add_title_column(table, f"what {name} liked")
    if rated:
        _add_column(table, "stars")
    for position in range(max(len(movies), len(liked))):
        cells: list[str | Text] = ["", "", ""]
        if position < len(movies):
            movie = int(movies[position])
            cells = [str(position + 1), _title(titles, movie), f"{scores[position]:.3f}"]
        if position < len(liked):
            movie, stars = liked[position]
            cells += [_title(titles, movie), *([f"{stars:g}"] if stars is not None else [])]
        table.add_row(*cells)
    return table


def similar_table(source: Run | Exported, movie: int, movies: np.ndarray, scores: np.ndarray) -> Table:
    """The movies most like one, the most similar first."""
    titles = _titles(source, [movie, *movies.tolist()])
    table = _table()
    _add_column(table, "")
    _add_title_column(table, f"like {titles.get(movie, f'movie {movie}')}")
    _add_column(table, "similarity")
    for position, (other, score) in enumerate(zip(movies.tolist(), scores), 1):
        table.add_row(str(position), _title(titles, other), f"{score:.3f}")
    return table


def scores_table(
    source: Run | Exported, user: int, movies: Sequence[int], scores: np.ndarray, known: np.ndarray
) -> Table:
    """The scores of given movies, and whether the model knows both the user and the movie."""
    titles = _titles(source, movies)
    table = _table()
    _add_column(table, "movie")
    _add_title_column(table, "title")
    _add_column(table, f"score for user {user}")
    _add_column(table, "known")
    for movie, score, is_known in zip(movies, scores, known):
        title = data_text(titles.get(movie, "not in the dataset"))
        table.add_row(str(movie), title, f"{score:.4f}", "yes" if is_known else "no")
    return table


def known_user(run: Run, wanted: int | None = None) -> int:
    """The id of the wanted user, or of the first one.

    Raises:
        UserError: the dataset has no such user, or there are no tables yet.
    """
    path = _file(run, "users")
    with _readable(path, _fetch(run)):
        users = pq.read_table(path, columns=[RAW_USER])[RAW_USER]
    if wanted is not None and not pc.any(pc.equal(users, wanted)).as_py():
        raise UserError(f"user {wanted} is not in {run.root.name}; its users go from {users[0]} to {users[-1]}")
    return int(users[0].as_py() if wanted is None else wanted)


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _add_column(table: Table, heading: str) -> None:
    """A column that is never narrowed."""
    table.add_column(heading, no_wrap=True)


def _add_title_column(table: Table, heading: str) -> None:
    """A column of movie titles, which wrap where the terminal is narrow."""
    table.add_column(data_text(heading), overflow="fold")


def _title(titles: dict[int, str], movie: int) -> Text:
    return data_text(titles.get(movie, f"Movie {movie}"))


def _titles(source: Run | Exported, movies: Sequence[int]) -> dict[int, str]:
    """The titles with their years, by id, of those of the movies that are in the dataset.

    Where a repository has no titles, the ids stand for them.
    """
    if isinstance(source, Run):
        path, key, remedy = _file(source, "movies"), RAW_MOVIE, _fetch(source)
    else:
        found = source.titles()
        if found is None:
            return {movie: f"Movie {movie}" for movie in movies}
        path, key, remedy = found, MOVIE_ID, "export or copy the repository again"
    table = _rows_with(path, key, movies, [TITLE, YEAR], remedy)
    rows = zip(*(table[name].to_pylist() for name in (key, TITLE, YEAR)))
    return {movie: f"{title} ({year})" if year else title for movie, title, year in rows}


def _liked(run: Run, user: int, count: int) -> list[tuple[int, float | None]]:
    """The user's `count` best rated movies and their stars, the most recent first among equals."""
    columns = [RAW_MOVIE, RATING, TIMESTAMP]
    rows = _rows_with(_file(run, "ratings"), RAW_USER, [user], columns, _fetch(run))
    rows = rows.sort_by([(RATING, "descending"), (TIMESTAMP, "descending")])
    return list(zip(rows[RAW_MOVIE].to_pylist(), rows[RATING].to_pylist()))[:count]


def _rows_with(path: Path, key: str, wanted: Sequence[int], others: list[str], remedy: str) -> pa.Table:
    """The rows whose key is one of those wanted, in the file's order: its columns are the key and the others.

    Reads one row group at a time, and of it only the key unless a row is wanted. Most releases are sorted by user, so
    that the statistics rule out all row groups but one.

    Args:
        remedy: what to do where the file cannot be read.
    """
    with _readable(path, remedy), pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index(key)
        found = [file.schema_arrow.empty_table().select([key, *others])]
        limits = _limits(file.schema_arrow.field(key).type)
        ids = pa.array(sorted({one for one in wanted if one in limits}), file.schema_arrow.field(key).type)
        for group in range(file.num_row_groups):
            if _may_hold(file.metadata.row_group(group).column(column).statistics, ids):
                mask = pc.is_in(file.read_row_group(group, [key])[key], value_set=ids)
                if pc.any(mask).as_py():
                    found.append(file.read_row_group(group, [key, *others]).filter(mask))
    return pa.concat_tables(found)


def _limits(integers: pa.DataType) -> range:
    """The values that a column of such integers can have; no other is looked for."""
    return range(-(1 << integers.bit_width - 1), 1 << integers.bit_width - 1)


def _may_hold(statistics: pq.Statistics | None, ids: pa.Array) -> bool:
    """Whether a row group with such statistics can hold one of the sorted ids."""
    if statistics is None or not statistics.has_min_max:
        return len(ids) > 0
    between = pc.and_(pc.greater_equal(ids, statistics.min), pc.less_equal(ids, statistics.max))
    return bool(pc.any(between).as_py())


def _file(run: Run, table: str) -> Path:
    path = run.tables / f"{table}.parquet"
    if not path.is_file():
        raise UserError(f"{path} is missing; run: {run.command('fetch')}")
    return path


def _fetch(run: Run) -> str:
    """How the tables are made again."""
    return f"delete {run.tables} and run: {run.command('fetch')}"


@contextmanager
def _readable(path: Path, remedy: str) -> Iterator[None]:
    """
    Raises:
        UserError: the file is not whole, or is not Parquet, or lacks a column.
    """
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read ({reason}); {remedy}") from None
