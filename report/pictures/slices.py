"""The deciding metric for users and movies of different kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from models.evaluation.judgement import PerRow
from models.evaluation.kept import FULL_CATALOGUE, ROWS, SAMPLED
from models.evaluation.metrics.base import FULL, RowStatistic, mean_of
from models.protocols.base import PROTOCOLS
from report.calculations.differences import minus
from report.calculations.groups import dense, grouped
from report.calculations.ranks import per_user
from report.drawing import SMALL, direction, dot, legend_above, rows, undefined
from report.files import RunFiles
from report.judged import (
    RANKING,
    REMEMBERED,
    Kind,
    add_for_each_protocol,
    better_first,
    compared_among,
    models_with,
    part_of,
    ranks_of,
    refuse_other_questions,
    without_kept,
)
from report.slicings import SLICINGS, with_times
from report.style import capitalised, color_of, heading_of, listed, marker_of, mosaic, title_of
from report.words import METHOD, asked

WHAT = {SAMPLED: "users", FULL_CATALOGUE: "users", ROWS: "rows"}
DIFFERENCE = "difference"  # of the first two models


@dataclass(frozen=True)
class Slice:
    """One class.

    Attributes:
        name: as in `Class`.
        count: how many rows, or users, it holds.
        metrics, ci95: each model's metric and interval; None where it is undefined.
        apart: the interval of the first model's metric minus the second's, paired; None where there is none.
    """

    name: str
    count: int
    metrics: dict[str, float | None]
    ci95: dict[str, list[float] | None]
    apart: list[float] | None


def sliced_models(files: RunFiles, protocol: str, part: str) -> tuple[str, ...]:
    """The compared networks, and the best of the other models."""
    models = models_with(files, protocol, part)
    networks = compared_among(models)
    others = better_first(files, protocol, [model for model in models if model not in networks])
    return (*networks, *others[:1])


def _statistics(files: RunFiles, protocol: str, part: str) -> Callable[[str, np.ndarray], RowStatistic]:
    """The deciding metric of a model on some rows, taken apart."""
    protocols = PROTOCOLS[protocol]
    metric = protocols.metric(protocols.deciding)
    if part != ROWS:
        values = {
            model: per_user(metric, *ranks_of(files, protocol, model, part))
            for model in sliced_models(files, protocol, part)
        }
        return lambda model, chosen: mean_of(values[model][chosen])
    of_rows = metric.per_row
    assert of_rows is not None

    def statistic(model: str, chosen: np.ndarray) -> RowStatistic:
        table = files.kept(protocol, model, part)
        label, score = (table[name].to_numpy(np.float64)[chosen] for name in ("label", "score"))
        return of_rows(label, score)

    return statistic


@lru_cache(maxsize=REMEMBERED)
def slices_of(files: RunFiles, protocol: str, part: str) -> dict[str, list[Slice]]:
    """Every slicing's classes, by its title."""
    models = sliced_models(files, protocol, part)
    refuse_other_questions(files, protocol, part, models)
    table = with_times(files, files.kept(protocol, models[0], part))
    owner, seed = table["user_id"].to_numpy(), files.result(protocol, models[0]).seed
    statistic = _statistics(files, protocol, part)
    found: dict[str, list[Slice]] = {}
    for slicing in SLICINGS:
        found[slicing.title] = []
        for one in slicing.classes(files, table):
            statistics = {model: statistic(model, one.rows) for model in models}
            pair = {DIFFERENCE: minus(statistics[models[0]], statistics[models[1]])} if len(models) > 1 else {}
            judged = PerRow({**statistics, **pair}, grouped(dense(owner[one.rows])))
            means, intervals = judged.means(), judged.intervals(seed)
            metrics = {model: means[model] for model in models}
            ci95 = {model: intervals[model] for model in models}
            found[slicing.title].append(Slice(one.name, judged.count, metrics, ci95, intervals.get(DIFFERENCE)))
    return found


def draw(part: str, files: RunFiles, protocol: str) -> Figure:
    """A panel for each slicing, a row for each class, the models beside each other."""
    found = slices_of(files, protocol, part or part_of(protocol))
    models = sliced_models(files, protocol, part or part_of(protocol))
    *small, large = found
    pairs = [[one, two] for one, two in zip(small[::2], [*small[1::2], small[-1]])]
    tallest = [max(len(found[name]) for name in pair) for pair in pairs]
    row_height = max(0.36, 0.12 * len(models))
    heights = [1.0 + row_height * count for count in (*tallest, len(found[large]))]
    made, axes = mosaic([*pairs, [large, large]], height=sum(heights) + 0.3, height_ratios=heights)
    ends = _ends([one for name in small for one in found[name]])
    higher = PROTOCOLS[protocol].metric(PROTOCOLS[protocol].deciding).higher_is_better
    for name, panel in axes.items():
        _panel(panel, found[name], models, ticks=5 if name == large else 2)
        panel.set(title=name, xlim=_ends(found[name]) if name == large else ends)
        direction(panel, higher)
    handles = [
        Line2D([], [], color=color_of(one), marker=marker_of(one), label=title_of(protocol, one)) for one in models
    ]
    legend_above(made, handles, columns=len(models))
    return made


def _ends(classes: list[Slice]) -> tuple[float, float]:
    """An axis that all panels of some classes can share."""
    values = [value for one in classes for value in one.metrics.values() if value is not None]
    values += [end for one in classes for pair in one.ci95.values() for end in pair or ()]
    low, high = min(values, default=0.0), max(values, default=1.0)
    space = 0.04 * (high - low) or 0.1
    return low - space, high + space


def _panel(panel: Axes, classes: list[Slice], models: tuple[str, ...], ticks: int) -> None:
    rows(panel, [f"{one.name} ({one.count:,})" for one in classes], ticks=ticks)
    panel.tick_params(axis="y", labelsize=SMALL)
    for row, one in enumerate(classes):
        for place, model in enumerate(models):
            y = row + 0.72 / max(3, len(models)) * (place - (len(models) - 1) / 2)
            pair = one.ci95[model]
            dot(panel, y, one.metrics[model], pair, model, filled=pair is not None, size=4.5)
        if all(value is None for value in one.metrics.values()):
            undefined(panel, row)


def text(part: str, files: RunFiles, protocol: str) -> str:
    """In how many slices the first of the models is above the second, and in how many that is more than chance."""
    part = part or part_of(protocol)
    models = sliced_models(files, protocol, part)
    result = files.result(protocol, models[0])
    metric = PROTOCOLS[protocol].deciding
    if part == SAMPLED:
        metric = metric.removeprefix(FULL)
    count = {ROWS: "test_rows", FULL_CATALOGUE: "full_catalogue_users"}.get(part, "test_users")
    shown = listed([title_of(protocol, model) for model in models])
    return (
        f"{capitalised(heading_of(protocol, metric))}, for {shown}. {_apart(files, protocol, part)}"
        f"In brackets: the number of {WHAT[part]}. A user joins with the first rating. "
        f"{METHOD}; {asked(result, count)}."
    )


def _apart(files: RunFiles, protocol: str, part: str) -> str:
    models = sliced_models(files, protocol, part)[:2]
    slices = [one for classes in slices_of(files, protocol, part).values() for one in classes]
    if len(models) < 2:
        return ""
    values = [(one.metrics[models[0]], one.metrics[models[1]]) for one in slices]
    defined = [(first, second) for first, second in values if first is not None and second is not None]
    if not defined:
        return ""
    name, other = (title_of(protocol, model) for model in models)
    sign = PROTOCOLS[protocol].metric(PROTOCOLS[protocol].deciding).sign
    better = sum(sign * (first - second) > 0 for first, second in defined)
    sure = [one.apart for one in slices if one.apart and (one.apart[0] > 0 or one.apart[1] < 0)]
    surely_better = sum(sign * (low + high) > 0 for low, high in sure)
    return (
        f"{name} is better than {other} in {better} of {len(defined)} slices. The 95 % interval of the paired "
        f"difference excludes 0 in {len(sure)} of them, {surely_better} in favour of {name}; chance alone would give "
        f"about {0.05 * len(defined):.0f}. "
    )


add_for_each_protocol(
    Kind(
        name="slices",
        title="Slices of users and movies",
        draw=partial(draw, ""),
        text=partial(text, ""),
        lacking=lambda files, protocol: without_kept(files, protocol, part_of(protocol), networks=1),
    ),
    place=50,
)
add_for_each_protocol(
    Kind(
        name="slices-sampled",
        title="Slices of users and movies, sampled",
        draw=partial(draw, SAMPLED),
        text=partial(text, SAMPLED),
        lacking=lambda files, protocol: without_kept(files, protocol, SAMPLED, networks=1),
        task=RANKING,
    ),
    place=51,
)
