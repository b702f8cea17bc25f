"""Ids as clients know them: MovieLens' own, or a table's, which the canonical tables only number."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, ORIGINAL_ID, RAW_MOVIE, RAW_USER, USER_ID
from core.run_folder import Run
from ensemble.export.configs import INT64, TEXT
from workflows.sources.table_columns import own_id_type

TABLES = {USER_ID: ("users", RAW_USER), MOVIE_ID: ("movies", RAW_MOVIE)}


def own_ids(run: Run, name: str) -> pa.Table | None:
    """The numbers of the canonical table and what each stands for, `id` int64 or text; None where they are the ids.

    Args:
        run: whose tables were verified.
        name: `user_id` or `movie_id`.
    """
    table, raw = TABLES[name]
    path = run.tables / f"{table}.parquet"
    if own_id_type(path) is None:
        return None
    return pq.read_table(path, columns=[raw, ORIGINAL_ID]).rename_columns([name, ORIGINAL_ID])


def kind_of(run: Run, name: str) -> str:
    """The type of ids in Triton's configuration."""
    kind = own_id_type(run.tables / f"{TABLES[name][0]}.parquet")
    return INT64 if kind is None or pa.types.is_integer(kind) else TEXT


def write_with_own_ids(run: Run, name: str, table: pa.Table, path: Path) -> None:
    """Writes a table with a column of ids, as clients know them.

    Args:
        table: with the column `name`, ids of the canonical tables.
    """
    own = own_ids(run, name)
    if own is not None:
        place = pa.compute.index_in(table[name], value_set=own[name].cast(table.schema.field(name).type))
        table = table.set_column(table.schema.get_field_index(name), name, own[ORIGINAL_ID].take(place))
    pq.write_table(table.replace_schema_metadata(), path)
