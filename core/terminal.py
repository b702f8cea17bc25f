"""What is printed, whatever it holds and whatever it goes to: text as it is, and streams that cannot be written."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

NARROWEST = 20  # columns; a narrower terminal breaks the lines itself
# What would move the cursor, start an escape sequence, turn the direction of the text, or not be seen at all: control
# characters (C0, DEL, C1), bidirectional controls, line separators, zero-width marks, tags, and surrogates, which stand
# for the bytes of a file name that is not UTF-8.
_CONTROLS = "\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_CONTROLS += "\ud800-\udfff\U000e0000-\U000e007f"
CONTROL = re.compile(f"[{_CONTROLS}]")
CONTROL_IN_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")


def visible(text: str) -> str:
    r"""Text from data, such as a title or the name of a file, with its control characters as escapes, line ends too.

    >>> visible("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    return CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class Terminal(Console):
    """A console that prints text as it is: neither markup nor emoji codes, and no control character of the text's own.

    What is to be bold or dim is a `Text` with a style.
    """

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines; rich prints nothing at all where `COLUMNS` is 0."""
        width, height = super().size
        return ConsoleDimensions(max(width, NARROWEST), height)

    @size.setter
    def size(self, new: tuple[int, int]) -> None:
        self._width, self._height = new

    @property
    def encoding(self) -> str:
        """The encoding of the stream in lower case; rich draws lines in ASCII where it is none of Unicode's."""
        return (getattr(self.file, "encoding", None) or "utf-8").lower()

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; a string is one line, in which line ends are shown as escapes."""
        super().print(*(visible(one) if isinstance(one, str) else one for one in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does, with the control characters as escapes, some of which rich would remove."""
        return super().render_str(CONTROL_IN_LINES.sub(_escape, text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, with the control characters of a `Text` as escapes."""
        for segment in super().render(renderable, options):
            if segment.control or not CONTROL_IN_LINES.search(segment.text):
                yield segment
            else:
                yield Segment(CONTROL_IN_LINES.sub(_escape, segment.text), segment.style)


def data_text(text: str, style: str = "") -> Text:
    """Text from data for a table or a bar: a line as it is, with its control characters as escapes."""
    return Text(visible(text), style=style)


# -- standard streams --------------------------------------------------------------------------------------------------


class Lasting(io.TextIOBase):
    """A stream to write text to that never fails: after the first error, what is written is dropped.

    What the encoding of the stream cannot say is written as escapes.

    Attributes:
        failure: the first error.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        """Writes, as far as that is possible. Returns the number of characters."""
        if self.failure is None:
            try:
                self._stream.write(self._writable(text))
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flushes, as far as that is possible."""
        if self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _writable(self, text: str) -> str:
        encoding = self.encoding
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return text.encode(encoding, "backslashreplace").decode(encoding)
        return text

    def _fail(self, error: Exception) -> None:
        self.failure = error
        with suppress(OSError, ValueError):  # or the interpreter fails on what is left in the buffer when it ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:  # it is closed
            return False

    def writable(self) -> bool:
        """It is, in the end to nowhere."""
        return True

    def fileno(self) -> int:
        """The stream's file descriptor."""
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Inside, nothing fails for want of a standard output: it may be closed, a full disk, or a pipe that nothing reads.

    At the end, one line on standard error says what could not be written, except to a closed pipe, as after `| head`.
    """
    _open_standard_files()
    before = sys.stdout, sys.stderr
    output, errors = Lasting(sys.stdout), Lasting(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        yield
    finally:
        output.flush()
        if output.failure is not None and getattr(output.failure, "errno", None) != errno.EPIPE:
            reason = getattr(output.failure, "strerror", None) or str(output.failure)
            errors.write(f"note: standard output could not be written: {reason.lower()}\n")
        errors.flush()
        sys.stdout, sys.stderr = before


def _open_standard_files() -> None:
    """Opens those of the three standard files that were closed, or the next file opened would be taken for one."""
    with open(os.devnull, "r+b", buffering=0) as nowhere:
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                os.dup2(nowhere.fileno(), number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
