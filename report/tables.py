"""The tables of the report: figures with their intervals, and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import stdev
from typing import Any

from core.constants import CANDIDATE_NEGATIVES
from models.evaluation.metrics.ranking import how_many
from models.evaluation.ncf_paper import PROTOCOL as PAPER_PROTOCOL
from models.evaluation.notes import notes, over_seeds
from models.evaluation.results import Result
from models.protocols.base import PROTOCOLS, protocol_groups
from models.registry import compared
from models.training.train import TrainedConfig
from report.compared import Judged, Paper
from report.folded import Folded, title_of_group
from report.style import capitalised, heading_of, title_of

NONE = "\u2013"  # a dash


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure.

    Attributes:
        value: None where there is none.
        low, high: its 95 % interval; None where there is none.
        deviation: the standard deviation over training seeds, or over what `over` says, where there are several.
        is_best: whether no model has a better one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    over: str = "seeds"
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model's figures.

    Attributes:
        name: of the model, as files call it.
        is_compared: whether it is one of the networks that the report is about.
        seconds: how long its training took; None for a baseline.
    """

    name: str
    title: str
    is_compared: bool
    cells: list[Cell]
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class FiguresTable:
    """A model per row, a metric per column."""

    title: str
    headings: list[str]
    rows: list[ModelRow]
    notes: list[str] = field(default_factory=list)


def evaluation_table(protocol: str, results: Sequence[Result]) -> FiguresTable:
    """What `evaluate` found by one protocol.

    Args:
        results: the protocol's.
    """
    metrics = [metric for _, metric in PROTOCOLS[protocol].columns]
    rows = {
        one.model: ([_cell(one.metrics.get(name), one.ci95.get(name)) for name in metrics], one.train_seconds)
        for one in results
    }
    others = next((one.others for one in results if one.others), None)
    return _figures_table(protocol, rows, others, notes(protocol, [asdict(one) for one in results]))


def seeds_table(protocol: str, judged: Judged) -> FiguresTable:
    """What `compare` found by one protocol."""
    metrics = [metric for _, metric in PROTOCOLS[protocol].columns]
    rows = {}
    for name, model in judged.models.items():
        cells = []
        for metric in metrics:
            seeds = [value for value in model.per_seed.get(metric, ()) if value is not None]
            deviation = stdev(seeds) if len(seeds) > 1 else None
            cells.append(_cell(model.metrics.get(metric), model.ci95.get(metric), deviation))
        rows[name] = cells, model.train_seconds
    others = next((one.others for one in judged.models.values() if one.others), None)
    return _figures_table(protocol, rows, others, notes(protocol, [asdict(one) for one in judged.models.values()]))


def folded_table(group: str, models: Sequence[Folded]) -> FiguresTable:
    """Means over the protocols of a group, with the standard deviation over them.

    Args:
        models: at least one.
    """
    first = protocol_groups()[group][0]
    rows = {}
    for one in models:
        metrics = [metric for _, metric in PROTOCOLS[first].columns]
        cells = [Cell(value=one.mean(name), deviation=one.deviation(name), over=group) for name in metrics]
        rows[one.model] = cells, one.seconds
    return replace(_figures_table(first, rows, None, []), title=title_of_group(group))


def _figures_table(
    protocol: str, rows: Mapping[str, tuple[list[Cell], float]], others: tuple[int, int] | None, found: list[str]
) -> FiguresTable:
    columns = PROTOCOLS[protocol].columns
    by_column = zip(*(cells for cells, _ in rows.values()))
    best = [_best(protocol, name, cells) for (_, name), cells in zip(columns, by_column)]
    networks = compared()
    return FiguresTable(
        title=PROTOCOLS[protocol].heading(others),
        headings=[capitalised(heading.replace("\n", ", ")) for heading, _ in columns],
        rows=[
            ModelRow(
                name=name,
                title=title_of(protocol, name),
                is_compared=name in networks,
                cells=[_marked(cell, best[place]) for place, cell in enumerate(cells)],
                seconds=seconds or None,
            )
            for name, (cells, seconds) in rows.items()
        ],
        notes=found,
    )


def _cell(value: float | None, pair: Sequence[float] | None, deviation: float | None = None) -> Cell:
    low, high = pair or (None, None)
    return Cell(value=value, low=low, high=high, deviation=deviation)


def _best(protocol: str, metric: str, cells: Sequence[Cell]) -> float | None:
    values = [cell.value for cell in cells if cell.value is not None]
    sign = PROTOCOLS[protocol].metric(metric).sign
    return max(values, key=lambda value: sign * value, default=None)


def _marked(cell: Cell, best: float | None) -> Cell:
    return replace(cell, is_best=cell.value is not None and cell.value == best)


# -- the NCF paper's benchmark -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaperTable:
    """What `paper` found: for each model the number of seeds, HR@10 and NDCG@10; and the published figures.

    Attributes:
        others: how many movies the held-out one was ranked among.
        is_own: whether the project publishes it.
    """

    rows: list[tuple[str, int, list[Cell]]]
    published: list[tuple[str, str, str]]
    others: str
    is_own: bool


def paper_table(found: Paper) -> PaperTable:
    """Means over seeds with 95 % intervals by Student's t, above the published figures."""
    rows = []
    for model in dict.fromkeys(row["model"] for row in found.rows):
        of_model = [row for row in found.rows if row["model"] == model]
        cells = [_over_seeds([row[name] for row in of_model]) for name in ("hr@10", "ndcg@10")]
        rows.append((title_of(PAPER_PROTOCOL, model), len(of_model), cells))
    others = next((tuple(row["others"]) for row in found.rows if row.get("others")), (CANDIDATE_NEGATIVES,) * 2)
    published = [(source, _as_published(hits), _as_published(gain)) for source, (hits, gain) in found.published.items()]
    return PaperTable(rows, published, how_many(others), found.is_own)


def _as_published(figure: float) -> str:
    """With the decimals that it was published with: four, or three.

    >>> _as_published(0.73), _as_published(0.7294)
    ('0.730', '0.7294')
    """
    return f"{figure:.3f}" if figure == round(figure, 3) else f"{figure:.4f}"


def _over_seeds(found: Sequence[float | None]) -> Cell:
    values = [value for value in found if value is not None]
    if not values:
        return Cell(value=None)
    mean, half = over_seeds(values)
    return Cell(value=mean) if half is None else Cell(value=mean, low=mean - half, high=mean + half)


# -- settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SettingsTable:
    """A setting per row, a network per column, in words."""

    title: str
    headings: list[str]
    rows: list[tuple[str, list[str]]]


def settings_table(protocol: str, configs: Mapping[str, TrainedConfig]) -> SettingsTable:
    """How the networks of a protocol were trained."""
    given = {name: _flat(config.settings) for name, config in configs.items()}
    outcomes = {name: _outcome(protocol, config) for name, config in configs.items()}
    columns = {name: given[name] | outcomes[name] for name in configs}
    names = dict.fromkeys(name for column in given.values() for name in column)
    first = sorted(names, key=lambda name: "." not in name)  # what the networks do not share
    names = dict.fromkeys([*first, *(name for column in outcomes.values() for name in column)])
    rows = [(name, [column.get(name, NONE) for column in columns.values()]) for name in names]
    return SettingsTable(PROTOCOLS[protocol].title, [title_of(protocol, name) for name in configs], rows)


def _outcome(protocol: str, config: TrainedConfig) -> dict[str, str]:
    best = config.validation.get(config.monitor)
    return {
        "best epoch": f"{config.best_epoch} of {config.epochs}",
        f"validation {heading_of(protocol, config.monitor)}": "undefined" if best is None else f"{best:.4f}",
        "trained on": " and ".join(config.trained_on),
        "weights": f"{config.weights:,}",
        "seconds of training": f"{config.train_seconds:,.0f}",
        "samples per second": f"{config.samples_per_second:,}",
        "device": config.device,
    }


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """`{"network": {"dim": 64}}` as `{"network.dim": "64"}`."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = _in_words(value)
    return flat


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
