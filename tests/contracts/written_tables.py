"""Tables of ratings and movies, the ways in which tools write them as text, and what damages such files."""

import re
import unicodedata
from dataclasses import dataclass

from hypothesis import strategies as st

LARGEST_ID = 2**31 - 1
YEAR = re.compile(r"\([0-9]{4}\)$")
LEGACY = ("latin-1", "cp1252")
ENCODINGS = ("utf-8", "utf-8-sig", *LEGACY, "utf-16")
LINE_ENDS = ("\n", "\r\n", "\r")
# What is no id in plain digits from 0 to 2**31 - 1
NO_IDS = ("", "x", "1_0", "+1", "-1", " 1", "1 ", "1.0", "1e3", "0x1", "\u0661", "\uff14", '"1', "1\0", "1\x1b[31m")
NO_IDS += ("2147483648", "4294967297", "9" * 19, "9" * 300, "\u00a01", "1\u200b", "NaN")
# What is left of a title after cleaning: nothing of this
INVISIBLE = (" ", "\u00a0", "\u200b", "\ufeff", "\x07", "\x0c", "\x1c", "\x1b", "\u2028", "\u202e", "\u3000")
VISIBLE = st.sampled_from([*"aZ09 éßÜñ€ÃÂ©œ", *"'\"`,;:|()[]{}\\/#&-_.!?*%$", "ō", "日", "Ж", "ع", "👍"])

IDS = st.one_of(st.integers(0, 30), st.integers(0, LARGEST_ID))
TIMES = st.one_of(st.integers(0, 5), st.integers(0, 4_102_444_800))
RATINGS = st.lists(
    st.tuples(IDS, IDS, st.integers(1, 10).map(lambda half: half / 2), TIMES),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row[:2],
)


@st.composite
def titles(draw: st.DrawFn) -> str:
    """A title as it is after cleaning, without a year at its end."""
    text = unicodedata.normalize("NFC", draw(st.text(VISIBLE, min_size=1, max_size=12))).strip()
    return text if text and not YEAR.search(text) else "Heat"


@st.composite
def movies(draw: st.DrawFn, genres: tuple[str, ...]) -> list[tuple[int, str, int, list[str]]]:
    """(movie id, title, year, genres) of different movies; the year is 0 where it is unknown."""
    ids = draw(st.lists(IDS, max_size=5, unique=True))
    years = st.one_of(st.just(0), st.integers(1900, 2025))
    some = st.lists(st.sampled_from(genres), unique=True, max_size=3) if genres else st.just([])
    chosen = some.map(lambda some: sorted(some, key=genres.index))
    return [(movie, draw(titles()), draw(years), draw(chosen)) for movie in ids]


@dataclass(frozen=True)
class Way:
    """How a file is written: what differs between tools and systems, and is nothing of the table's.

    Attributes:
        dirt: what cannot be seen, before and after each title.
        quoted: whether every field is in quotes, in a layout that quotes.
        blank: after how many lines a blank one follows; 0 for none.
        ended: whether the last line ends.
    """

    encoding: str
    line_end: str
    dirt: tuple[str, str]
    decomposed: bool
    quoted: bool
    blank: int
    ended: bool

    def dirty(self, title: str) -> str:
        """A title as it is written."""
        before, after = self.dirt
        return f"{before}{unicodedata.normalize('NFD', title) if self.decomposed else title}{after}"

    def text(self, lines: list[str]) -> str:
        """The lines as a file's text."""
        written = []
        for number, line in enumerate(lines, 1):
            written += [line, ""] if self.blank and number % self.blank == 0 else [line]
        return self.line_end.join(written) + (self.line_end if self.ended else "")

    def line_of(self, place: int) -> int:
        """The number of the line that is at a place, from 0, in `lines`."""
        return place + 1 + (place // self.blank if self.blank else 0)

    def encoded(self, text: str) -> bytes | None:
        """The file's bytes; None where the encoding lacks a character, or where they are other text in UTF-8 too."""
        try:
            data = text.encode(self.encoding)
        except UnicodeEncodeError:
            return None
        try:
            ambiguous = self.encoding in LEGACY and not text.isascii() and bool(data.decode("utf-8"))
        except UnicodeDecodeError:
            ambiguous = False
        return None if ambiguous else data


INVISIBLES = st.lists(st.sampled_from(INVISIBLE), max_size=2).map("".join)
WAYS = st.builds(
    Way,
    encoding=st.sampled_from(ENCODINGS),
    line_end=st.sampled_from(LINE_ENDS),
    dirt=st.tuples(INVISIBLES, INVISIBLES),
    decomposed=st.booleans(),
    quoted=st.booleans(),
    blank=st.integers(0, 3),
    ended=st.booleans(),
)


@dataclass(frozen=True)
class Damage:
    """One line of one file that is wrong.

    Attributes:
        kind: `id`, another text instead of an id; `short` and `long`, a field too few or too many; `none`.
        file: `ratings` or `movies`.
        place: which row, of as many as there are, taken modulo their number.
    """

    kind: str
    file: str
    place: int
    text: str


DAMAGES = st.builds(
    Damage,
    kind=st.sampled_from(["none", "none", "id", "short", "long"]),
    file=st.sampled_from(["ratings", "movies"]),
    place=st.integers(0, 7),
    text=st.sampled_from(NO_IDS),
)
