"""Anybody's table read, and written as the canonical tables."""

from pathlib import Path
from typing import Any

from core.artifacts import fingerprint, new_folder, sha256, verify
from core.columns import RAW_USER
from core.errors import UserError
from core.stage_code import stage_code
from workflows.sources.any_table import read_table, require_file
from workflows.sources.fetch import LARGEST_USER, Say, numbers_read, write_tables
from workflows.sources.table_columns import TABLE, Columns, name_of


def fetch_any_table(path: Path, columns: Columns, tables: Path, say: Say, *, where: str = "") -> bool:
    """Reads a table and writes the canonical ones in Parquet; does nothing where they are up to date.

    Args:
        say: is given one line of plain text for each thing that a user should know.
        where: the path or address that the table is remembered by; empty for `path`.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the file cannot be read, or is not such a table.
    """
    require_file(path)
    code = stage_code(("workflows/sources",), ("pandas", "pyarrow"))
    made_from = fingerprint(raw=sha256(path), columns=str(columns), code=code)
    try:
        there = verify(tables)
    except UserError:
        there = {}
    if there.get("fingerprint") == made_from:
        for note in there.get("notes", ()):
            say(f"warning: {note}")
        say(f"{path}: unchanged, tables reused")
        return False
    found = read_table(path, columns)
    details: dict[str, Any] = {
        "source": path.name,
        "notes": found.notes,
        TABLE: {"file": where or str(path.absolute()), "columns": str(columns)},
        LARGEST_USER: int(found.users[RAW_USER].max()),
    }
    with new_folder(tables, made_from, dataset=name_of(path), **details) as out:
        write_tables(found, {}, out)
    for note in found.notes:
        say(f"warning: {note}")
    say(f"{path}: {numbers_read(found)}")
    return True
