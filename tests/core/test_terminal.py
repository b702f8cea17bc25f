"""Text from data, and streams that cannot show it."""

import errno
import io
import sys

import pytest
from rich.table import Table
from rich.text import Text

from core import progress as bars
from core.terminal import Lasting, Terminal, data_text, lasting_output, visible

HOSTILE = "a\x1b]0;title\x07[/b][red]:x: \x9b31m\u202ereversed\u2028\r\x00\x7f\udcff"
HARMLESS = "a\\x1b]0;title\\x07[/b][red]:x: \\x9b31m\\u202ereversed\\u2028\\r\\x00\\x7f\\udcff"


def terminal(**options) -> Terminal:
    return Terminal(file=io.StringIO(), **{"width": 200, **options})


def printed(*objects, **options) -> str:
    on = terminal(**options)
    on.print(*objects)
    return on.file.getvalue()


def test_control_characters_become_visible_and_other_letters_stay():
    assert visible(HOSTILE) == HARMLESS
    assert visible("a\nb\tc") == "a\\nb\\tc"
    for text in ("Amélie", "七人の侍 🎬", "[REC] :x: \\n", "a\u200db"):
        assert visible(text) == text


def test_a_printed_string_is_one_line_as_it_is():
    assert printed(f"{HOSTILE}\nb") == f"{HARMLESS}\\nb\n"
    assert printed("'[/b]'", "[old]") == "'[/b]' [old]\n"


def test_text_in_tables_and_styled_text_is_shown_as_it_is():
    table = Table(HOSTILE, box=None)
    table.add_column(data_text(HOSTILE))
    table.add_column(Text("[b]\x1b[31m"))
    table.add_row(HOSTILE, data_text(HOSTILE), data_text("two\nlines, and wide enough"))
    shown = printed(table)
    assert shown.count(HARMLESS) == 4
    assert "[b]\\x1b[31m" in shown
    assert "two\\nlines" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e\u2028\r\x00\x7f")
    coloured = printed(data_text("[red]\x1b[31m", "bold"), force_terminal=True, color_system="standard")
    assert coloured == "\x1b[1m[red]\\x1b[31m\x1b[0m\n"


def test_cells_of_several_lines_stay_so():
    table = Table(box=None, show_header=False)
    table.add_row("one\ntwo")
    assert [line.strip() for line in printed(table).splitlines()] == ["one", "two"]


def test_bars_headings_and_spinners_show_names_as_they_are(monkeypatch):
    on = terminal()
    monkeypatch.setattr(bars, "console", on)
    with bars.stage("[/b] :x:"), bars.working("[old] \x1b[31m"), bars.progress("[/red] :x:\x1b", 1, "steps") as bar:
        bar(1, "[/note] :x:\x1b")
    shown = on.file.getvalue()
    for words in ("[/b] :x:", "[old] \\x1b[31m", "[/red] :x:\\x1b", "[/note] :x:\\x1b"):
        assert words in shown
    assert "\x1b" not in shown


def test_lines_are_drawn_in_ascii_where_the_stream_is(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", Lasting(stream))
    table = Table("é")
    table.add_row("±")
    Terminal(width=40).print(table)
    shown = stream.buffer.getvalue().decode("ascii")
    assert "\\xe9" in shown
    assert "+--" in shown


class Broken(io.StringIO):
    """A stream whose writes fail from the second on."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error, self.calls = error, 0

    def write(self, text: str) -> int:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return super().write(text)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (FULL, "note: standard output could not be written: no space left on device\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.EIO, "Input/output error"), "note: standard output could not be written: input/output error\n"),
        (ValueError("I/O operation on closed file"), "closed file\n"),
    ],
)
def test_what_cannot_be_written_is_dropped_with_one_line(monkeypatch, error, note):
    output, errors = Broken(error), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    with lasting_output():
        for number in range(4):
            print(number, end="", flush=True)
        Terminal().print("5")
    assert output.getvalue() == "0"
    assert output.calls == 2
    assert errors.getvalue().endswith(note)
    assert errors.getvalue().count("\n") == bool(note)
    assert (sys.stdout, sys.stderr) == (output, errors)


def test_an_error_inside_goes_on_though_nothing_can_be_written(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(FULL))
    monkeypatch.setattr(sys, "stderr", Broken(FULL))

    def fails() -> None:
        with lasting_output():
            print("a\nb", file=sys.stderr)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
