"""Answers as tables for people: movies by their titles, next to what the user liked."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from core.columns import RATING, RAW_MOVIE, RAW_USER, TIMESTAMP, TITLE, YEAR
from core.errors import UserError
from core.run_folder import Run


def recommendations_table(
    run: Run, user: int, history: list[int], movies: np.ndarray, scores: np.ndarray, known: bool
) -> Table:
    """The recommended movies, best first, next to as many that the user rated highest.

    For someone unknown next to what they listed; nothing stands there where the answer is not personal.
    """
    titles = _titles(run)
    liked = _liked(run, user, len(movies))
    rated = bool(liked)
    name = f"user {user}" if rated else "you"
    if not rated:
        liked = [(movie, None) for movie in reversed(history) if movie in titles]
    heading = "recommended by Triton" if known else "most popular: Triton does not know this person"
    table = _table("", heading, "score", *([f"what {name} liked"] if liked else []), *(["stars"] if rated else []))
    for position in range(max(len(movies), len(liked))):
        cells = ["", "", ""]
        if position < len(movies):
            movie = int(movies[position])
            cells = [str(position + 1), titles.get(movie, f"Movie {movie}"), f"{scores[position]:.3f}"]
        if position < len(liked):
            movie, stars = liked[position]
            cells += [titles[movie], *([f"{stars:g}"] if stars is not None else [])]
        table.add_row(*cells)
    return table


def similar_table(run: Run, movie: int, movies: np.ndarray, scores: np.ndarray) -> Table:
    """The movies most like one, the most similar first."""
    titles = _titles(run)
    table = _table("", f"like {titles.get(movie, f'movie {movie}')}", "similarity")
    for position, (other, score) in enumerate(zip(movies.tolist(), scores), 1):
        table.add_row(str(position), titles.get(other, f"Movie {other}"), f"{score:.3f}")
    return table


def scores_table(run: Run, user: int, movies: Sequence[int], scores: np.ndarray, known: np.ndarray) -> Table:
    """The scores of given movies, and whether the model knows both the user and the movie."""
    titles = _titles(run)
    table = _table("movie", "title", f"score for user {user}", "known")
    for movie, score, is_known in zip(movies, scores, known):
        title = titles.get(movie, "not in the dataset")
        table.add_row(str(movie), title, f"{score:.4f}", "yes" if is_known else "no")
    return table


def known_user(run: Run, wanted: int | None = None) -> int:
    """The wanted user, or the first one.

    Raises:
        UserError: the dataset has no such user, or there are no tables yet.
    """
    users = _read(run, "users", [RAW_USER])[RAW_USER].to_pylist()
    if wanted is not None and wanted not in users:
        raise UserError(f"user {wanted} is not in {run.root.name}; its users go from {users[0]} to {users[-1]}")
    return int(users[0] if wanted is None else wanted)


def _table(*headings: str) -> Table:
    return Table(*headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _titles(run: Run) -> dict[int, str]:
    """Every movie's title with its year, by id."""
    table = _read(run, "movies", [RAW_MOVIE, TITLE, YEAR])
    rows = zip(*(table[name].to_pylist() for name in (RAW_MOVIE, TITLE, YEAR)))
    return {movie: escape(f"{title} ({year})" if year else title) for movie, title, year in rows}  # [REC] is a film


def _liked(run: Run, user: int, count: int) -> list[tuple[int, float | None]]:
    """The user's `count` best rated movies and their stars, the most recent first among equals."""
    table = _read(run, "ratings", [RAW_USER, RAW_MOVIE, RATING, TIMESTAMP])
    rows = table.filter(pc.equal(table[RAW_USER], user)).sort_by([(RATING, "descending"), (TIMESTAMP, "descending")])
    return list(zip(rows[RAW_MOVIE].to_pylist(), rows[RATING].to_pylist()))[:count]


def _read(run: Run, table: str, columns: list[str]) -> pa.Table:
    path = run.tables / f"{table}.parquet"
    if not path.is_file():
        raise UserError(f"{path} is missing; run: python -m marquee fetch --dataset {run.root.name}")
    return pq.read_table(path, columns=columns)
