"""The tables of `evaluate`, `compare` and `paper`. A table takes the widest layout that fits the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from core.constants import CANDIDATE_NEGATIVES, K
from core.progress import needed_width
from core.run_folder import Run
from models.evaluation.metrics.base import FULL
from models.evaluation.metrics.ranking import how_many
from models.evaluation.notes import notes, over_seeds
from models.evaluation.results import read_results
from models.protocols.base import PROTOCOLS

# A value, half of its interval, and in brackets its standard deviation, as far as they are known.
Cell = tuple[str, ...]
Interval = tuple[float, float] | list[float]


# -- figures -----------------------------------------------------------------------------------------------------------


def without_leading_zero(value: float, digits: int) -> str:
    """A number of at least 0 with so many decimals, and no 0 before the point.

    >>> without_leading_zero(0.0274, 3), without_leading_zero(1.5, 3)
    ('.027', '1.500')
    """
    return f"{value:.{digits}f}".removeprefix("0")


def interval(half_width: float, digits: int = 3) -> str:
    """Half of an interval, as it stands after a value.

    >>> interval(0.0274)
    '±.027'
    """
    return f"±{without_leading_zero(half_width, digits)}"


def _figure(metric: str, metrics: Mapping[str, float | None], ci95: Mapping[str, Interval | None]) -> Cell:
    value, pair = metrics.get(metric), ci95.get(metric)
    if value is None:
        return ("-",)
    return (f"{value:.3f}", interval((pair[1] - pair[0]) / 2)) if pair else (f"{value:.3f}",)


def _seconds(seconds: float) -> Cell:
    return (f"{seconds:.0f} s",)


# -- tables that fit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How a table of figures is set.

    Attributes:
        gap: columns between two of the table's.
        edge: whether there is a margin around the table.
        lines: how many lines a cell of value, interval and deviation takes: 1, 2 (the deviation below) or 3.
    """

    gap: int
    edge: bool
    lines: int

    def cell(self, parts: Cell) -> Text:
        """The parts of a cell on its lines."""
        first = parts[: {1: 3, 2: 2, 3: 1}[self.lines]]
        lines = [" ".join(first), *parts[len(first) :]]
        return Text("\n".join(lines), justify="right")

    def heading(self, text: str) -> str:
        """A column's heading, which breaks at every word where the cells are narrow."""
        return text.replace(" ", "\n") if self.lines == 3 and "\n" in text else text


LAYOUTS = (
    Layout(gap=2, edge=True, lines=1),
    Layout(gap=2, edge=False, lines=1),
    Layout(gap=1, edge=False, lines=1),
    Layout(gap=2, edge=False, lines=2),
    Layout(gap=1, edge=False, lines=2),
    Layout(gap=2, edge=False, lines=3),
    Layout(gap=1, edge=False, lines=3),
)


@dataclass
class FiguresTable:
    """A model per row, a metric per column; printed in the first of `LAYOUTS` that fits the terminal.

    Attributes:
        notes: sentences below the table.
    """

    title: str
    headings: Sequence[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def row_count(self) -> int:
        """How many models there are."""
        return len(self.rows)

    def add_row(self, model: str, *cells: Cell) -> None:
        """Adds a model with a cell for each heading."""
        self.rows.append((model, list(cells)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        yield Text(self.title, style="table.title")
        fitting = (one for one in LAYOUTS if needed_width(console, self._table(one)) <= options.max_width)
        layout = next(fitting, LAYOUTS[-1])
        table = self._table(layout)
        if layout.edge:
            yield table
        else:
            yield Group("", table, "")
        if self.notes:
            yield Group(*map(Text, self.notes), "")

    def _table(self, layout: Layout) -> Table:
        table = Table(
            box=SIMPLE_HEAD, padding=(0, layout.gap - 1, 0, 0), pad_edge=layout.edge, show_edge=layout.edge
        )  # the box itself puts a blank between two columns
        table.add_column("model", overflow="fold")
        for heading in self.headings:
            table.add_column(layout.heading(heading), justify="right", overflow="fold")
        for model, cells in self.rows:
            table.add_row(model, *map(layout.cell, cells))
        return table


def comparison_tables(run: Run) -> list[FiguresTable]:
    """What `evaluate` found, a table per protocol: metrics ± half their 95 % interval, seconds of training.

    Raises:
        UserError: evaluation.json is missing, or is not a list of results.
    """
    results = read_results(run)
    tables = []
    for protocol in PROTOCOLS:
        judged = [result for result in results if result.protocol == protocol]
        table = _protocol_table(protocol, [asdict(result) for result in judged])
        for result in judged:
            figures = [_figure(metric, result.metrics, result.ci95) for _, metric in _columns(protocol)]
            table.add_row(result.model, *figures, _seconds(result.train_seconds) if result.epochs else ("none",))
        if judged:
            tables.append(table)
    return tables


def seeds_tables(found: dict[str, Any]) -> list[RenderableType]:
    """What `compare` found: a table per protocol, and sentences on which model is better.

    A figure is the mean over seeds ± half the 95 % interval over users; in brackets the standard deviation over seeds.
    """
    parts: list[RenderableType] = []
    for protocol, judged in found["protocols"].items():
        table = _protocol_table(protocol, list(judged["models"].values()))
        for name, model in judged["models"].items():
            cells = []
            for _, metric in _columns(protocol):
                values = [value for value in model["per_seed"].get(metric, []) if value is not None]
                deviation = (f"({without_leading_zero(stdev(values), 3)})",) if len(values) > 1 else ()
                cells.append((*_figure(metric, model["metrics"], model["ci95"]), *deviation))
            table.add_row(name, *cells, _seconds(model["train_seconds"]) if model["train_seconds"] else ("none",))
        parts += [table, judged["verdict"], ""]
    return parts


def _protocol_table(protocol: str, results: Sequence[Mapping[str, Any]]) -> FiguresTable:
    """The table without its rows; heading and notes say what the results were judged by."""
    others = next((result["others"] for result in results if result.get("others")), None)
    headings = [*(heading for heading, _ in _columns(protocol)), "training"]
    return FiguresTable(PROTOCOLS[protocol].heading(others), headings, notes=notes(protocol, results))


def _columns(protocol: str) -> list[tuple[str, str]]:
    """Heading and name of each metric."""
    return PROTOCOLS[protocol].columns


PAPER_METRICS = ("hr@10", "ndcg@10", FULL + "hr@10", FULL + "ndcg@10")


def paper_table(
    name: str, users: int, results: list[dict[str, Any]], published: dict[str, tuple[float, float]]
) -> RenderableType:
    """What `paper` found: means over seeds with 95 % intervals (Student's t), above the published figures.

    Args:
        users: how many are asked about.
        results: one for each model and seed, of the same test lists.
    """
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in ("seeds", "HR@10", "NDCG@10", "HR@10\nall movies", "NDCG@10\nall movies"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model in dict.fromkeys(result["model"] for result in results):
        rows = [result for result in results if result["model"] == model]
        figures = [_over_seeds([row.get(metric) for row in rows]) for metric in PAPER_METRICS]
        table.add_row(model, str(len(rows)), *figures)
    table.add_section()
    for source, (hits, gain) in published.items():
        table.add_row(f"published, on the authors' test lists: {source}", "", f"{hits:g}", f"{gain:g}", "", "")
    others = next((tuple(row["others"]) for row in results if row.get("others")), (CANDIDATE_NEGATIVES,) * 2)
    left_out = max((row.get("left_out", {}).get("test_users", 0) for row in results), default=0)
    title = f"{name}: a user's last movie among {how_many(others)} others, {users - left_out:,} users"
    subject = "1 user is" if left_out == 1 else f"{left_out:,} users are"
    note = f"{subject} left out: among fewer than {K} others any movie is a hit." if left_out else ""
    return Group(Text(title, style="table.title"), table, Text(note))


def _over_seeds(found: list[float | None]) -> str:
    values = [value for value in found if value is not None]
    if not values:
        return "-"
    mean, half = over_seeds(values)
    return f"{mean:.4f}" if half is None else f"{mean:.4f} {interval(half, 4)}"
