"""Delimited text, as MovieLens publishes it: ratings read fast, small files row by row, and what is wrong named."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from core.columns import RATING, RATINGS_COLUMNS, RAW_MOVIE, RAW_USER, TIMESTAMP
from core.errors import UserError

LARGEST_ID = 2**31 - 1
RATINGS_TYPES = {RAW_USER: pa.int32(), RAW_MOVIE: pa.int32(), RATING: pa.float32(), TIMESTAMP: pa.int64()}
BLOCK_BYTES = 1 << 24
LONGEST_MESSAGE = 200  # characters of the parser's words


def read_ratings(path: Path, separator: str, header: tuple[str, ...] | None = None) -> pa.Table:
    """Reads (user id, movie id, stars, time) rows into the canonical ratings table.

    Args:
        header: what the first line must be; None where the file has none.

    Raises:
        UserError: another header, or a malformed row, named by its number.
    """
    if header:
        with open(path, "rb") as file:
            if file.readline().rstrip().split(separator.encode()) != [name.encode() for name in header]:
                raise UserError(f"{path}: the first line must read {separator.join(header)}; copy the file again")
    source: pa.BufferReader | str = str(path)
    if len(separator) > 1:  # pyarrow splits at one character; MovieLens' fields hold no tab
        source = pa.BufferReader(path.read_bytes().replace(separator.encode(), b"\t"))
        separator = "\t"

    def parse(use_threads: bool) -> pa.Table:
        return pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(
                column_names=RATINGS_COLUMNS,
                skip_rows=1 if header else 0,
                use_threads=use_threads,
                block_size=BLOCK_BYTES,
            ),
            parse_options=pa_csv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=RATINGS_TYPES, null_values=[], strings_can_be_null=False
            ),
        )

    try:
        return parse(use_threads=True)
    except pa.ArrowInvalid:
        try:  # once more, as threads do not know the row's number
            if isinstance(source, pa.BufferReader):
                source.seek(0)
            return parse(use_threads=False)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: {_one_line(error)}; copy the file again from the dataset's zip") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("CSV parse error: ", "").replace("CSV conversion error to ", "not ")
    text = re.sub(r"In CSV column #\d+: ", "", text).replace("Row #", "row ")
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 3] + "..."


def text_rows(
    path: Path, separator: str, *, encoding: str, fields: int, header: tuple[str, ...] | None = None
) -> list[list[str]]:
    """The rows of a small delimited file, without its header.

    Args:
        fields: how many each row must have.
        header: what the first line must begin with; None where the file has none.

    Raises:
        UserError: text in another encoding, another header, or a row with another number of fields, named by its line.
    """
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}); copy it again"
        ) from None
    rows: list[list[str]] = []
    for number, row in _numbered_rows(path, text, separator):
        if header and not rows:
            if row[: len(header)] != list(header):
                raise UserError(f"{path}: the first line must begin with {separator.join(header)}; copy the file again")
        elif len(row) != fields:
            raise UserError(f"{path}: line {number} has {len(row)} fields where {fields} were expected; copy it again")
        rows.append(row)
    return rows[1:] if header else rows


def _numbered_rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that they end on. Only comma-separated files quote; elsewhere quotes are part of the text."""
    if separator != ",":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.rstrip("\r").split(separator)
        return
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}: near line {reader.line_num}: {error} (a quote that never ends?); copy it again"
        ) from None


def whole_number(text: str, path: Path, what: str, highest: int = LARGEST_ID) -> int:
    """A field as a number.

    Raises:
        UserError: it is not a whole number from 0 to `highest`.
    """
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{path}: {what} {text[:40]!r} is not a whole number; copy the file again") from None
    if not 0 <= value <= highest:
        raise UserError(f"{path}: {what} {text[:40]} is not from 0 to {highest}; copy the file again")
    return value
