"""Delimited text, as MovieLens publishes it: its encoding, its rows and where they begin, its text cleaned."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from core.errors import UserError

LARGEST_ID = 2**31 - 1
ID = re.compile("[0-9]+")  # int() would read 1_0, +1 and the digits of other scripts too
SHOWN = 60  # characters of a file that a message shows
LINE_END = re.compile("\r\n|\r|\n")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
AGAIN = "correct that line or copy the file again"
# A character of two to four bytes in UTF-8
MULTIBYTE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
ODD_COLONS = re.compile("(?<!:):::(?:::)*(?!:)")
UNUSUAL = re.compile(r"\s*[^\S ]+\s*")  # white space other than a plain space, no-break spaces included
JOINERS = "\u200c\u200d"  # format characters that belong to the words of some languages


def shown(text: str) -> str:
    """Text of a file as a message shows it: quoted, cut, every control character escaped."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def refuse(path: Path, line: int, what: str, remedy: str = AGAIN) -> NoReturn:
    """Raises the `UserError` about a line of a file."""
    raise UserError(f"{path}: line {line} {what}; {remedy}")


def clean_text(text: str) -> str:
    """A title or category without what cannot be seen: composed (NFC), and one space for each run of odd white space.

    Control and format characters go, as they would reach the terminal or make two categories of one.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    text = UNUSUAL.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(one for one in text if one in JOINERS or unicodedata.category(one) not in ("Cc", "Cf")).strip()


def decoded(path: Path) -> str:
    """A file's text: UTF-8, with or without a byte order mark, or else Windows' code page 1252 or Latin-1.

    The bytes 0x80 to 0x9f are letters and quotes in cp1252 and control characters in Latin-1, so a file that has
    them is taken for cp1252.

    Raises:
        UserError: UTF-16, zero bytes, or UTF-8 that is broken somewhere.
    """
    data = path.read_bytes()
    refuse_utf_16(path, data)
    if b"\0" in data:
        refuse(path, line_at(data, data.index(b"\0")), "has a zero byte (is it text in UTF-8?)", "copy the file again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(codecs.BOM_UTF8) or MULTIBYTE.search(data):
            what = f"has the byte 0x{data[error.start]:02x}, which is not UTF-8, as other text of the file is"
            refuse(path, line_at(data, error.start), what, "copy the file again or save it as UTF-8")
    if re.search(rb"[\x80-\x9f]", data):
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            pass
    return data.decode("latin-1")


def refuse_utf_16(path: Path, start: bytes) -> None:
    """Refuses a file that starts with the byte order mark of UTF-16."""
    if start.startswith(UTF_16):
        raise UserError(f'{path} is UTF-16 text (Excel\'s "Unicode text"); save it as comma-separated UTF-8 instead')


def line_at(data: bytes, position: int) -> int:
    """The number of the line that a byte is on."""
    before = data[:position]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


class Row(list[str]):
    """The fields of a row, as they are in the file, and the line where it begins."""

    def __init__(self, fields: list[str], path: Path, line: int):
        super().__init__(fields)
        self.path, self.line = path, line

    def number(self, place: int, what: str, highest: int = LARGEST_ID) -> int:
        """A field as a number.

        Args:
            what: what messages call the field.

        Raises:
            UserError: it is not a whole number from 0 to `highest`, in plain digits.
        """
        text = self[place]
        if not ID.fullmatch(text):
            self.refuse(f"has {what} {shown(text)}, which is not a whole number" + (" from 0" if "-" in text else ""))
        if len(text) > 18 or int(text) > highest:
            self.refuse(f"has {what} {shown(text)}, which is not from 0 to {highest}")
        return int(text)

    def refuse(self, what: str, remedy: str = AGAIN) -> NoReturn:
        """Raises the `UserError` about this row."""
        refuse(self.path, self.line, what, remedy)


def text_rows(
    path: Path, separator: str, *, fields: int, header: tuple[str, ...] | None = None, rest: bool = False
) -> list[Row]:
    """The rows of a small delimited file, without its header. The first field is an id.

    Args:
        fields: how many each row must have.
        header: what the first line must begin with; None where the file has none.
        rest: whether the last field is the rest of the line, separators and quotes included.

    Raises:
        UserError: another header, a row with another number of fields, or two rows of one id that differ, named by
            their lines; text that is neither UTF-8 nor Latin-1.
    """
    rows: list[Row] = []
    for row in _rows(path, decoded(path), separator, fields - 1 if rest else -1):
        if header and not rows:
            if row[: len(header)] != list(header):
                refuse_header(path, separator.join(row), separator.join(header))
        elif len(row) != fields:
            found = f"({shown(separator.join(row))})"
            row.refuse(f"has {len(row)} fields {found} where {fields} were expected")
        rows.append(row)
    if header and not rows:
        refuse_header(path, "", separator.join(header))
    rows = rows[1:] if header else rows
    _refuse_contradictions(rows)
    return rows


def refuse_header(path: Path, found: str, expected: str) -> NoReturn:
    """Raises the `UserError` about a first line, with what is likely to have happened to it."""
    remedy = "copy the file again"
    if "," in expected and found.replace(";", ",").replace("\t", ",").replace('"', "") == expected:
        remedy = "save it separated by commas"
    elif found.startswith((f",{expected}", f'"",{expected}')):
        remedy = "save it without the index column (index=False in pandas)"
    elif sorted(found.split(",")) == sorted(expected.split(",")):
        remedy = "put the columns in that order"
    raise UserError(f"{path}: the first line is {shown(found)} where {expected!r} was expected; {remedy}")


def _rows(path: Path, text: str, separator: str, splits: int) -> Iterator[Row]:
    """The rows that are not blank. Only comma-separated files quote; elsewhere quotes are part of the text.

    Args:
        splits: at how many separators a line is split, from its beginning; -1 for all. Of some, nothing quotes.
    """
    if separator != "," or splits >= 0:
        for number, line in enumerate(LINE_END.split(text), 1):
            if line.strip():
                if separator == "::" and ODD_COLONS.search(line):
                    refuse(path, number, f"has ':::', where the separator '::' could be either end: {shown(line)}")
                yield Row(line.split(separator, splits), path, number)
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for fields in reader:
            if "".join(fields).strip() or len(fields) > 1:
                yield Row(fields, path, start)
            start = reader.line_num + 1
    except csv.Error as error:
        line = LINE_END.split(text)[start - 1]
        if '\\"' in line:
            refuse(path, start, f"has {shown(line)}", 'write a quote inside of quotes as "" (in Spark: escape=\'"\')')
        if reader.line_num > start:
            refuse(path, start, f"opens a quote that does not end where it should: {shown(line)}")
        refuse(path, start, f"is not CSV ({error}): {shown(line)}")


def _refuse_contradictions(rows: list[Row]) -> None:
    """Refuses two rows of one id (the first field) that differ otherwise: one of them would be lost."""
    first: dict[str, Row] = {}
    for row in rows:
        number = row[0].lstrip("0") or row[0][:1]  # 007 is 7, 00 is 0, and an empty field is no id
        before = first.setdefault(number, row)
        if before[1:] != row[1:]:
            row.refuse(f"has {shown(row[0])} once more, differently from line {before.line}", "remove one of the two")
