"""What the user sees while something runs."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

PIPED_WIDTH = 100  # columns, where the output is no terminal that knows its own

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
error_console = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    """Units per second, in the largest sensible prefix."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        if not rate:
            return Text("")
        for limit, prefix in ((1e6, "M"), (1e3, "k")):
            if rate >= limit:
                return Text(f"{rate / limit:.1f} {prefix} {task.fields['unit']}/s")
        return Text(f"{rate:.1f} {task.fields['unit']}/s")


@contextmanager
def progress(description: str, total: float | None, unit: str) -> Iterator[Callable[[float, str], None]]:
    """Shows a bar with rate and time left; gives `advance(by, note)`.

    Args:
        total: how many units there are; None where nobody knows.
        unit: what is counted, in the plural.
    """
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=20)),
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, transient=False, speed_estimate_period=60) as bar:
        task = bar.add_task(description, total=total, unit=unit, note="")

        def advance(by: float, note: str) -> None:
            bar.update(task, advance=by)
            if note:
                bar.update(task, note=note)

        yield advance


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Announces a stage, and says how many seconds it took."""
    console.rule(f"[bold]{name}", align="left", style="dim")
    start = time.perf_counter()
    yield
    console.print(f"[dim]{name}: {time.perf_counter() - start:.1f} s[/dim]")


@contextmanager
def working(message: str) -> Iterator[None]:
    """A spinner for work whose length nobody knows, then the seconds that it took."""
    start = time.perf_counter()
    with console.status(message):
        yield
    console.print(f"{message} [dim]({time.perf_counter() - start:.1f} s)[/dim]")
