"""What a table of the user's own is: the names of its file and of its columns. Imports no library of tables."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from core.artifacts import read_manifest
from core.columns import ORIGINAL_ID
from core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
ENDINGS = (*SEPARATORS, *(f"{ending}.gz" for ending in SEPARATORS), PARQUET)
TABLE = "table"  # in the tables' manifest: the file and its columns
# What columns are often called, for a suggestion; the first that is there is suggested.
OFTEN = {
    "user": ("userid", "user", "useruuid", "customerid", "customer", "visitorid", "personid", "uid", "reviewerid"),
    "item": ("movieid", "itemid", "item", "movie", "productid", "sku", "asin", "isbn", "articleid", "trackid"),
    "rating": ("rating", "stars", "score", "bookrating", "overall"),
    "time": ("timestamp", "time", "unixreviewtime", "date", "datetime", "createdat", "eventtime", "ts"),
    "title": ("title", "name", "movietitle", "itemname", "productname"),
    "genres": ("genres", "genre", "categories", "category"),
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what; empty for what it does not say.

    Attributes:
        user, item: ids of any type.
        rating: stars, from 0.5 to 5. Without, every row is as good as the others: 5 stars.
        time: seconds since 1970, a timestamp or a date. Without, the order of the rows.
        title, genres: of the item; genres are separated by `|`.
    """

    user: str
    item: str
    rating: str = ""
    time: str = ""
    title: str = ""
    genres: str = ""

    def __str__(self) -> str:
        """As `--columns` takes it."""
        return ",".join(f"{field.name}={value}" for field in fields(self) if (value := getattr(self, field.name)))

    @property
    def named(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        return tuple(value for field in fields(self) if (value := getattr(self, field.name)))


def is_table(text: str) -> bool:
    """Whether a dataset's name is the path of a table."""
    return text.lower().endswith(ENDINGS)


def name_of(path: Path) -> str:
    """What a table is called: its file's name without its endings."""
    ending = next(one for one in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(one))
    return path.name[: -len(ending)]


def parse_columns(text: str) -> Columns:
    """The columns from `user=customer,item=sku`.

    Raises:
        UserError: a pair is no such pair, a column is not known or given twice, or user or item is missing.

    >>> parse_columns("user=who,item=what")
    Columns(user='who', item='what', rating='', time='', title='', genres='')
    """
    known = [field.name for field in fields(Columns)]
    found: dict[str, str] = {}
    for pair in text.split(","):
        what, equals, name = pair.partition("=")
        what = what.strip()
        if not equals or not name or what not in known:
            raise UserError(f"--columns has {pair[:60]!r}; give pairs such as user=NAME, of {', '.join(known)}")
        if what in found:
            raise UserError(f"--columns gives {what} twice; give each once")
        found[what] = name
    if missing := [what for what in ("user", "item") if what not in found]:
        raise UserError(f"--columns lacks {' and '.join(missing)}; give at least user=NAME,item=NAME")
    if len(set(found.values())) < len(found):
        raise UserError(f"--columns {text} takes one column for two; give each another")
    return Columns(**found)


def guessed(names: list[str]) -> Columns | None:
    """The columns by what they are called; None where nothing looks like the user or the item."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found = {what: next((plain[one] for one in often if one in plain), "") for what, often in OFTEN.items()}
    return Columns(**found) if found["user"] and found["item"] else None


def remembered(tables: Path) -> tuple[str, Columns] | None:
    """The path or address of the file that the tables were made of, and its columns; None where they are not of one."""
    try:
        table = read_manifest(tables).get(TABLE)
    except UserError:
        return None
    return (table["file"], parse_columns(table["columns"])) if table else None


def own_id_type(path: Path) -> "pa.DataType | None":
    """The type of a table's own ids in `movies.parquet` or `users.parquet`; None where its ids are the numbers there.

    Raises:
        OSError, pyarrow.ArrowException: the file is not there, or is no Parquet.
    """
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    return schema.field(ORIGINAL_ID).type if ORIGINAL_ID in schema.names else None
