"""The answers of `recommend`, `similar` and `score` as tables: movies by their titles. Long titles wrap."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from core.columns import RATING, RAW_MOVIE, RAW_USER, TIMESTAMP, TITLE, YEAR
from core.errors import UserError
from core.run_folder import Run


def recommendations_table(
    run: Run, user: int, history: list[int], movies: np.ndarray, scores: np.ndarray, known: bool
) -> Table:
    """The recommended movies, best first, next to as many that the user rated highest.

    For a new user next to the movies of their history; alone where the answer is not personal.
    """
    titles = _titles(run)
    liked = _liked(run, user, len(movies))
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


def similar_table(run: Run, movie: int, movies: np.ndarray, scores: np.ndarray) -> Table:
    """The movies most like one, the most similar first."""
    titles = _titles(run)
    table = _table()
    _add_column(table, "")
    _add_title_column(table, f"like {titles.get(movie, f'movie {movie}')}")
    _add_column(table, "similarity")
    for position, (other, score) in enumerate(zip(movies.tolist(), scores), 1):
        table.add_row(str(position), _title(titles, other), f"{score:.3f}")
    return table


def scores_table(run: Run, user: int, movies: Sequence[int], scores: np.ndarray, known: np.ndarray) -> Table:
    """The scores of given movies, and whether the model knows both the user and the movie."""
    titles = _titles(run)
    table = _table()
    _add_column(table, "movie")
    _add_title_column(table, "title")
    _add_column(table, f"score for user {user}")
    _add_column(table, "known")
    for movie, score, is_known in zip(movies, scores, known):
        title = Text(titles.get(movie, "not in the dataset"))
        table.add_row(str(movie), title, f"{score:.4f}", "yes" if is_known else "no")
    return table


def known_user(run: Run, wanted: int | None = None) -> int:
    """The id of the wanted user, or of the first one.

    Raises:
        UserError: the dataset has no such user, or there are no tables yet.
    """
    users = _read(run, "users", [RAW_USER])[RAW_USER].to_pylist()
    if wanted is not None and wanted not in users:
        raise UserError(f"user {wanted} is not in {run.root.name}; its users go from {users[0]} to {users[-1]}")
    return int(users[0] if wanted is None else wanted)


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _add_column(table: Table, heading: str) -> None:
    """A column that is never narrowed."""
    table.add_column(heading, no_wrap=True)


def _add_title_column(table: Table, heading: str) -> None:
    """A column of movie titles, which wrap where the terminal is narrow."""
    table.add_column(Text(heading), overflow="fold")


def _title(titles: dict[int, str], movie: int) -> Text:
    return Text(titles.get(movie, f"Movie {movie}"))  # not markup: [REC] is a film


def _titles(run: Run) -> dict[int, str]:
    """Every movie's title with its year, by id."""
    table = _read(run, "movies", [RAW_MOVIE, TITLE, YEAR])
    rows = zip(*(table[name].to_pylist() for name in (RAW_MOVIE, TITLE, YEAR)))
    return {movie: f"{title} ({year})" if year else title for movie, title, year in rows}


def _liked(run: Run, user: int, count: int) -> list[tuple[int, float | None]]:
    """The user's `count` best rated movies and their stars, the most recent first among equals."""
    table = _read(run, "ratings", [RAW_USER, RAW_MOVIE, RATING, TIMESTAMP])
    rows = table.filter(pc.equal(table[RAW_USER], user)).sort_by([(RATING, "descending"), (TIMESTAMP, "descending")])
    return list(zip(rows[RAW_MOVIE].to_pylist(), rows[RATING].to_pylist()))[:count]


def _read(run: Run, table: str, columns: list[str]) -> pa.Table:
    path = run.tables / f"{table}.parquet"
    if not path.is_file():
        raise UserError(f"{path} is missing; run: {run.command('fetch')}")
    return pq.read_table(path, columns=columns)
