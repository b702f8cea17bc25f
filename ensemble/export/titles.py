"""The movies' titles, which travel with a repository: who asks it needs no run folder to read the answers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import read_manifest, sha256
from core.columns import MOVIE_ID, RAW_MOVIE, TITLE, YEAR
from core.errors import UserError
from core.run_folder import Run

MOVIES = "movies.parquet"
SCHEMA = pa.schema({MOVIE_ID: pa.int64(), TITLE: pa.string(), YEAR: pa.int16()})


def titles_digest(run: Run) -> str:
    """The SHA-256 of the table that the titles are from.

    Raises:
        UserError: there are no tables, or that one was changed.
    """
    path, command = run.tables / MOVIES, run.command("fetch")
    digest = sha256(path) if path.is_file() else ""
    if read_manifest(run.tables, command)["files"].get(MOVIES) != digest:
        raise UserError(f"{path} is missing or has changed; delete {run.tables} and run again: {command}")
    return digest


def write_titles(run: Run, path: Path) -> None:
    """Writes the id, title and year of every movie, sorted by id."""
    movies = pq.read_table(run.tables / MOVIES, columns=[RAW_MOVIE, TITLE, YEAR])
    titles = movies.rename_columns([MOVIE_ID, TITLE, YEAR]).cast(SCHEMA).sort_by(MOVIE_ID)
    pq.write_table(titles.replace_schema_metadata(), path)
