"""The ratings file of a layout: read fast in one go; what is wrong in it is looked for line by line, and named."""

import codecs
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from core.columns import RATING, RATINGS_COLUMNS, RAW_MOVIE, RAW_USER, TIMESTAMP
from core.errors import UserError
from workflows.sources.text import LARGEST_ID, refuse, refuse_header, refuse_utf_16, shown

RATINGS_TYPES = {RAW_USER: pa.int32(), RAW_MOVIE: pa.int32(), RATING: pa.float32(), TIMESTAMP: pa.int64()}
BLOCK_BYTES = 1 << 24
LONGEST_HEADER = 1 << 16
LOWEST_RATING, HIGHEST_RATING = 0.5, 5.0
LATEST = 4_102_444_800  # 2100-01-01 UTC: beyond it a time is in milliseconds, or wrong
WHOLE = re.compile("-?[0-9]+")
DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|-?(nan|inf)", re.IGNORECASE)
LENIENT = (b" ", b"\t", b"x", b"X")  # pyarrow reads " 1" and 0x1f as numbers


def read_ratings(path: Path, separator: str, header: tuple[str, ...] | None = None) -> pa.Table:
    """Reads (user id, movie id, stars, time) rows into the canonical ratings table.

    A byte order mark, line ends of any system, blank lines and, in a comma-separated file, quoted numbers are accepted.

    Args:
        header: what the first line must be; None where the file has none.

    Raises:
        UserError: another header, a malformed row, stars or a time out of range, named by its line.
    """
    with open(path, "rb") as file:
        start = file.read(LONGEST_HEADER)
    refuse_utf_16(path, start)
    if header:
        first = re.split(rb"[\r\n]", start.removeprefix(codecs.BOM_UTF8), maxsplit=1)[0].decode("utf-8", "replace")
        if first.split(separator) != list(header) and first.split(separator) != [f'"{name}"' for name in header]:
            refuse_header(path, first, separator.join(header))
    try:
        source, quoted = _source(path, separator, header)
        table = _parse(source, separator if len(separator) == 1 else "\t", quoted, header)
    except pa.ArrowInvalid as error:
        _refuse_malformed(path, separator, header)
        raise UserError(f"{path}: {shown(' '.join(str(error).split()))}; copy the file again") from None
    if bad := out_of_range(table):
        row, what, remedy = bad
        line = next(number for n, (number, _) in enumerate(lines_of(path, header)) if n == row)
        refuse(path, line, what, remedy)
    return table


def out_of_range(ratings: pa.Table) -> tuple[int, str, str] | None:
    """The first rating whose stars, ids or time cannot be: its row from 0, what it has, and what to do."""
    found = []
    limits = {
        RATING: (LOWEST_RATING, HIGHEST_RATING),
        RAW_USER: (0, LARGEST_ID),
        RAW_MOVIE: (0, LARGEST_ID),
        TIMESTAMP: (0, LATEST),
    }
    for name, (lowest, highest) in limits.items():
        column = ratings[name]
        within = pc.min_max(column).as_py()  # of NaN it knows nothing
        if len(column) and (not lowest <= within["min"] <= within["max"] <= highest or _any_nan(column)):
            inside = pc.and_(pc.greater_equal(column, lowest), pc.less_equal(column, highest))
            found.append((pc.index(inside, False).as_py(), name))
    if not found:
        return None
    row, name = min(found, key=lambda one: one[0])
    value = ratings[name][row].as_py()
    remedy = "correct or remove it"
    if name == RATING:
        return row, f"has {RATING} {value:g}; ratings go from {LOWEST_RATING} to {HIGHEST_RATING:g} stars", remedy
    if value < 0:
        return row, f"has {name} {value}; it cannot be negative", remedy
    what = f"has {name} {value}, which is after the year 2100; times are in seconds since 1970"
    return row, what, "divide milliseconds by 1,000 and microseconds by 1,000,000, or correct it"


def _any_nan(column: pa.ChunkedArray) -> bool:
    return pa.types.is_floating(column.type) and bool(pc.any(pc.is_nan(column)).as_py())


def _parse(source: str | pa.BufferReader, separator: str, quoted: bool, header: tuple[str, ...] | None) -> pa.Table:
    return pa_csv.read_csv(
        source,
        read_options=pa_csv.ReadOptions(
            column_names=RATINGS_COLUMNS, skip_rows=1 if header else 0, block_size=BLOCK_BYTES
        ),
        parse_options=pa_csv.ParseOptions(delimiter=separator, quote_char='"' if quoted else False),
        convert_options=pa_csv.ConvertOptions(column_types=RATINGS_TYPES, null_values=[], strings_can_be_null=False),
    )


def _source(path: Path, separator: str, header: tuple[str, ...] | None) -> tuple[str | pa.BufferReader, bool]:
    """What pyarrow reads, the file itself wherever that is enough, and whether it has quotes.

    Raises:
        UserError: bytes that pyarrow would pass over in a number.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(one) >= 0 for one in LENIENT if one != separator.encode()):
            _refuse_malformed(path, separator, header)
        if len(separator) > 1:  # pyarrow splits at one character
            return pa.BufferReader(content[:].replace(separator.encode(), b"\t")), False
        quoted = separator == "," and content.find(b'"') >= 0
        if quoted and not _quotes_are_whole(content):
            _refuse_malformed(path, separator, header)
    return str(path), quoted


def _quotes_are_whole(content: mmap.mmap) -> bool:
    """Whether all quotes stand in pairs around whole fields; pyarrow would read `"1"0` as 10."""
    outside = np.isin(np.arange(256), list(b",\r\n"))
    opens = True
    for begin in range(len(codecs.BOM_UTF8) * content[:3].startswith(codecs.BOM_UTF8), len(content), BLOCK_BYTES):
        before = content[begin - 1 : begin] if begin > len(codecs.BOM_UTF8) else b"\n"
        block = np.frombuffer(before + content[begin : begin + BLOCK_BYTES + 1], np.uint8)
        if begin + BLOCK_BYTES >= len(content):
            block = np.append(block, np.uint8(ord("\n")))
        at = np.flatnonzero(block[1:-1] == ord('"')) + 1
        opening = (np.arange(len(at)) % 2 == 0) == opens
        if not outside[block[np.where(opening, at - 1, at + 1)]].all():
            return False
        opens ^= bool(len(at) % 2)
    return opens


# -- what is wrong -----------------------------------------------------------------------------------------------------


def lines_of(path: Path, header: tuple[str, ...] | None = None) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without the header, each with its number."""
    with open(path, encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix("\n")
            if text and not (header and number == 1):
                yield number, text


def _refuse_malformed(path: Path, separator: str, header: tuple[str, ...] | None) -> None:
    """Names the first line that is not a rating; does nothing where there is none."""
    for number, line in lines_of(path, header):
        fields = line.split(separator)
        if len(fields) != len(RATINGS_COLUMNS):
            found = f"has {len(fields)} fields ({shown(line)}) where {len(RATINGS_COLUMNS)} were expected"
            refuse(path, number, found)
        for name, text in zip(RATINGS_COLUMNS, fields):
            if separator == "," and len(text) > 1 and text[0] == text[-1] == '"':
                text = text[1:-1]
            refuse_field(path, number, name, text)


def refuse_field(path: Path, line: int, name: str, text: str) -> None:
    """Refuses a field of the ratings, by its column, that is no number of that column's type."""
    kind = RATINGS_TYPES[name]
    if pa.types.is_floating(kind):
        if not DECIMAL.fullmatch(text):
            refuse(path, line, f"has {name} {shown(text)}, which is not a number")
    elif not WHOLE.fullmatch(text):
        refuse(path, line, f"has {name} {shown(text)}, which is not a whole number")
    elif len(text) > 18 or not -(2 ** (kind.bit_width - 1)) <= int(text) < 2 ** (kind.bit_width - 1):
        refuse(path, line, f"has {name} {shown(text)}, which is too large")
