"""The movies' titles, which travel with a repository: who asks it needs no run folder to read the answers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, RAW_MOVIE, TITLE, YEAR
from core.run_folder import Run
from ensemble.export.ids import write_with_own_ids

SCHEMA = pa.schema({MOVIE_ID: pa.int64(), TITLE: pa.string(), YEAR: pa.int16()})


def write_titles(run: Run, path: Path) -> None:
    """Writes the id, title and year of every movie, sorted by id.

    Args:
        run: whose tables were verified.
    """
    movies = pq.read_table(run.tables / "movies.parquet", columns=[RAW_MOVIE, TITLE, YEAR])
    titles = movies.rename_columns([MOVIE_ID, TITLE, YEAR]).cast(SCHEMA).sort_by(MOVIE_ID)
    write_with_own_ids(run, MOVIE_ID, titles, path)
