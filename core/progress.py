"""The console, progress bars and stage headings."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from core.terminal import Terminal, data_text, visible

PIPED_WIDTH = 110  # columns, where the output is not a terminal with a width of its own
UNLIMITED = 10_000  # columns, more than any line has
NOTE_INDENT = 2  # columns, of a note on a line of its own

console = Terminal(width=None if sys.stdout is not None and sys.stdout.isatty() else PIPED_WIDTH)
error_console = Terminal(stderr=True)


def needed_width(on: Console, renderable: RenderableType) -> int:
    """How many columns something takes where nothing of it wraps."""
    return Measurement.get(on, on.options.update(width=UNLIMITED), renderable).maximum


class _Rate(ProgressColumn):
    """Units per second while the bar runs, in the largest sensible prefix."""

    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        rate = task.speed
        if not rate or task.finished:
            return Text("")
        for limit, prefix in ((1e6, "M"), (1e3, "k")):
            if rate >= limit:
                return Text(f"{rate / limit:.1f} {prefix} {task.fields['unit']}/s")
        return Text(f"{rate:.1f} {task.fields['unit']}/s")


class _Display(Progress):
    """Each bar and its note: side by side where the terminal is wide enough, else the note below the bar."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            bar = self.make_tasks_table([task])
            note = Text(visible(task.fields["note"]), overflow="fold")
            side_by_side = Table.grid(padding=(0, 1))
            side_by_side.add_row(bar, note)
            if not note or needed_width(self.console, side_by_side) <= self.console.width:
                yield side_by_side
            else:
                yield bar
                yield Padding(note, (0, 0, 0, NOTE_INDENT))


class Bar:
    """A progress bar; call it with how much was done and a note, which may be empty."""

    def __init__(self, display: Progress, task: TaskID):
        self._display, self._task = display, task

    def __call__(self, by: float, note: str) -> None:
        self._display.update(self._task, advance=by)
        if note:
            self._display.update(self._task, note=note)

    def finish(self, note: str) -> None:
        """Ends the bar where it is: there was less to do than expected, or nothing."""
        done = self._display.tasks[self._task].completed
        self._display.update(self._task, total=done or 1, completed=done or 1, note=note)


@contextmanager
def progress(description: str, total: float | None, unit: str) -> Iterator[Bar]:
    """Shows a bar with rate and time left.

    Args:
        total: how many units there are; None where this is not known.
        unit: what is counted, in the plural.
    """
    with bars(unit) as add:
        yield add(description, total)


@contextmanager
def bars(unit: str) -> Iterator[Callable[[str, float | None], Bar]]:
    """Shows several bars, below each other: what it gives adds one, as `progress` describes it."""
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(min_width=20, overflow="fold")),
        BarColumn(bar_width=10),
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True)),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
    )
    with _Display(*columns, console=console, transient=False, speed_estimate_period=60) as display:

        def add(description: str, total: float | None) -> Bar:
            return Bar(display, display.add_task(visible(description), total=total, unit=unit, note=""))

        yield add


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Announces a stage, and prints how many seconds it took."""
    console.rule(data_text(name, "bold"), align="left", style="dim")
    start = time.perf_counter()
    yield
    console.print(data_text(f"{name}: {time.perf_counter() - start:.1f} s", "dim"))


@contextmanager
def working(message: str) -> Iterator[None]:
    """A spinner for work of unknown length, then the seconds that it took."""
    start = time.perf_counter()
    spinner = "line" if console.options.ascii_only else "dots"
    with console.status(data_text(message), spinner=spinner):
        yield
    console.print(data_text(message), data_text(f"({time.perf_counter() - start:.1f} s)", "dim"))
