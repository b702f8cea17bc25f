"""Ids on the command line, as a dataset has them: MovieLens' whole numbers, or a table's own of any type."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.run_folder import Run
from workflows.sources.table_columns import own_id_type

if TYPE_CHECKING:
    import pyarrow as pa

    from marquee.exported import Exported

Id = int | str
LARGEST_ID = 2**63 - 1  # Triton's tensors hold whole numbers as INT64
TABLES = {USER_ID: "users", MOVIE_ID: "movies"}


def movielens_id(text: str, option: str) -> int:
    """A user's or movie's id in digits alone, as in MovieLens' files.

    Raises:
        UserError: it is no such id.

    >>> movielens_id("42", "--user")
    42
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID)) and int(text) <= LARGEST_ID):
        raise UserError(f"{option} {text[:60]!r} is not an id; give a whole number from 0 to {LARGEST_ID}")
    return int(text)


def id_of(source: "Run | Exported", name: str, text: str, option: str) -> Id:
    """An id as the source has it: a text stays one where its ids are text.

    Args:
        name: `user_id` or `movie_id`.
        option: that it was given with, for messages.

    Raises:
        UserError: it is not of their type.
    """
    import pyarrow as pa

    kind = _type(_table(source, name)) if isinstance(source, Run) else source.type_of(name)
    if kind is None:
        return movielens_id(text, option)
    if not pa.types.is_integer(kind):
        return text
    try:
        return pa.scalar(int(text), pa.int64()).as_py()
    except (ValueError, OverflowError):
        raise UserError(f"{option} {text[:60]!r} is not an id; the ids here are whole numbers of 64 bits") from None


def refuse_own_ids(run: Run, what: str) -> None:
    """
    Raises:
        UserError: the run's ids are a table's own, which `what` cannot take.
    """
    if any(_type(_table(run, name)) is not None for name in TABLES):
        raise UserError(
            f"{what} takes ids that are whole numbers from 0 to 2147483647; those of {run.root.name} are others: "
            "number them in the table, or ask the server itself"
        )


def _table(run: Run, name: str) -> Path:
    return run.tables / f"{TABLES[name]}.parquet"


def _type(path: Path) -> "pa.DataType | None":
    """The type of a table's own ids; None where they are MovieLens', or nothing is there."""
    import pyarrow as pa

    try:
        return own_id_type(path)
    except (OSError, pa.ArrowException):
        return None
