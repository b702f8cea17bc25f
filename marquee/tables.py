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

from core.columns import MOVIE_ID, ORIGINAL_ID, RATING, RAW_MOVIE, RAW_USER, TIMESTAMP, TITLE, YEAR
from core.errors import UserError, one_line
from core.run_folder import Run
from core.terminal import data_text
from marquee.exported import Exported
from marquee.ids import Id
from workflows.sources.table_columns import own_id_type


def recommendations_table(
    source: Run | Exported, user: Id | None, history: list[Id], movies: np.ndarray, scores: np.ndarray, known: bool
) -> Table:
    """The recommended movies, best first, next to as many that the user rated highest.

    For a new user next to the movies of their history; alone where the answer is not personal, or where the ratings
    are not there, as in an exported repository.
    """
    ids: list[Id] = movies.tolist()
    liked = _liked(source, user, len(ids)) if isinstance(source, Run) and user is not None else []
    titles = _titles(source, [*ids, *history, *(movie for movie, _ in liked)])
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
    for position in range(max(len(ids), len(liked))):
        cells: list[str | Text] = ["", "", ""]
        if position < len(ids):
            cells = [str(position + 1), _title(titles, ids[position]), f"{scores[position]:.3f}"]
        if position < len(liked):
            movie, stars = liked[position]
            cells += [_title(titles, movie), *([f"{stars:g}"] if stars is not None else [])]
        table.add_row(*cells)
    return table


def similar_table(source: Run | Exported, movie: Id, movies: np.ndarray, scores: np.ndarray) -> Table:
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
    source: Run | Exported, user: Id, movies: Sequence[Id], scores: np.ndarray, known: np.ndarray
) -> Table:
    """The scores of given movies, and whether the model knows both the user and the movie."""
    titles = _titles(source, movies)
    table = _table()
    _add_column(table, "movie")
    _add_title_column(table, "title")
    _add_title_column(table, f"score for user {user}")
    _add_column(table, "known")
    for movie, score, is_known in zip(movies, scores, known):
        title = data_text(titles.get(movie, "not in the dataset"))
        table.add_row(data_text(str(movie)), title, f"{score:.4f}", "yes" if is_known else "no")
    return table


def known_user(run: Run, wanted: Id | None = None) -> Id:
    """The id of the wanted user, or of the first one.

    Raises:
        UserError: the dataset has no such user, or there are no tables yet.
    """
    path = _file(run, "users")
    with _readable(path, _fetch(run)):
        name = _own(path, RAW_USER)
        users = pq.read_table(path, columns=[name])[name]
    first: Id = users[0].as_py()
    if wanted is not None and not pc.any(pc.equal(users, wanted)).as_py():
        raise UserError(f"user {wanted} is not in {run.root.name}; its users go from {first} to {users[-1]}")
    return first if wanted is None else wanted


def _own(path: Path, raw: str) -> str:
    """The column that has the ids as they are asked for: a table's own, or else MovieLens'."""
    return raw if own_id_type(path) is None else ORIGINAL_ID


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _add_column(table: Table, heading: str) -> None:
    """A column that is never narrowed."""
    table.add_column(heading, no_wrap=True)


def _add_title_column(table: Table, heading: str) -> None:
    """A column of movie titles, which wrap where the terminal is narrow."""
    table.add_column(data_text(heading), overflow="fold")


def _title(titles: dict[Id, str], movie: Id) -> Text:
    return data_text(titles.get(movie, f"Movie {movie}"))


def _titles(source: Run | Exported, movies: Sequence[Id]) -> dict[Id, str]:
    """The titles with their years, by id, of those of the movies that are in the dataset.

    Where a repository has no titles, the ids stand for them.
    """
    if isinstance(source, Run):
        path, remedy = _file(source, "movies"), _fetch(source)
        with _readable(path, remedy):
            key = _own(path, RAW_MOVIE)
    else:
        found = source.titles()
        if found is None:
            return {movie: f"Movie {movie}" for movie in movies}
        path, key, remedy = found, MOVIE_ID, "export or copy the repository again"
    table = _rows_with(path, key, movies, [TITLE, YEAR], remedy)
    rows = zip(*(table[name].to_pylist() for name in (key, TITLE, YEAR)))
    return {movie: f"{title} ({year})" if year else title for movie, title, year in rows}


def _liked(run: Run, user: Id, count: int) -> list[tuple[Id, float | None]]:
    """The user's `count` best rated movies and their stars, the most recent first among equals."""
    numbers = _translated(run, "users", RAW_USER, [user], to_own=False)
    columns = [RAW_MOVIE, RATING, TIMESTAMP]
    rows = _rows_with(_file(run, "ratings"), RAW_USER, list(numbers.values()), columns, _fetch(run))
    rows = rows.sort_by([(RATING, "descending"), (TIMESTAMP, "descending")])[:count]
    own = _translated(run, "movies", RAW_MOVIE, rows[RAW_MOVIE].to_pylist(), to_own=True)
    return [(own[movie], stars) for movie, stars in zip(rows[RAW_MOVIE].to_pylist(), rows[RATING].to_pylist())]


def _translated(run: Run, table: str, raw: str, wanted: Sequence[Id], *, to_own: bool) -> dict[Id, Id]:
    """Ids of a table's own by the canonical tables' numbers of them, or those by these; MovieLens' stay as they are."""
    path = _file(run, table)
    with _readable(path, _fetch(run)):
        own = _own(path, raw)
    if own == raw:
        return {one: one for one in wanted}
    key, value = (raw, own) if to_own else (own, raw)
    rows = _rows_with(path, key, wanted, [value], _fetch(run))
    return dict(zip(rows[key].to_pylist(), rows[value].to_pylist()))


def _rows_with(path: Path, key: str, wanted: Sequence[Id], others: list[str], remedy: str) -> pa.Table:
    """The rows whose key is one of those wanted, in the file's order: its columns are the key and the others.

    Reads one row group at a time, and of it only the key unless a row is wanted. Most releases are sorted by user, so
    that the statistics rule out all row groups but one.

    Args:
        remedy: what to do where the file cannot be read.
    """
    with _readable(path, remedy), pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index(key)
        found = [file.schema_arrow.empty_table().select([key, *others])]
        kind = file.schema_arrow.field(key).type
        ids = pa.array(sorted({one for one in wanted if _can_be(one, kind)}), kind)
        for group in range(file.num_row_groups):
            if _may_hold(file.metadata.row_group(group).column(column).statistics, ids):
                mask = pc.is_in(file.read_row_group(group, [key])[key], value_set=ids)
                if pc.any(mask).as_py():
                    found.append(file.read_row_group(group, [key, *others]).filter(mask))
    return pa.concat_tables(found)


def _can_be(one: Id, kind: pa.DataType) -> bool:
    """Whether a column of such integers, or of text, can have an id; no other is looked for."""
    if not pa.types.is_integer(kind) or isinstance(one, str):
        return isinstance(one, str) and not pa.types.is_integer(kind)
    return -(1 << kind.bit_width - 1) <= one < 1 << kind.bit_width - 1


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
        raise UserError(f"{path} cannot be read ({one_line(error)}); {remedy}") from None
