"""What quality costs: seconds of training, and milliseconds of a request to Triton where they were measured."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from models.evaluation.results import Result
from models.protocols.base import PROTOCOLS
from report.drawing import SMALL, legend_above
from report.files import RunFiles
from report.judged import Kind, add_for_each_protocol, results_of, without_results
from report.served import NOTEBOOK, RECOMMEND, SCORE, Served
from report.style import GREY, capitalised, color_of, heading_of, listed, marker_of, mosaic, short_of, title_of
from report.words import METHOD, asked

HEIGHT, SERVED_HEIGHT = 3.6, 2.6  # inches: of the panels of training, and of that of requests
FEW, A_NAME = 3, 0.11  # names that the legend has room for, and inches of each further one
Filled = Literal["full", "none"]
REQUESTS: dict[str, tuple[str, Filled]] = {  # the mark of each kind, in words and as it is filled
    RECOMMEND: ("filled: recommend", "full"),
    SCORE: ("hollow: score", "none"),
}
FACTOR = 2  # of space at either end of a logarithmic axis
APART = 0.062  # of the panel's height, between two names


def judged(files: RunFiles, protocol: str) -> tuple[list[Result], list[Result]]:
    """The results that have the deciding metric: of models whose training was timed, and of the others."""
    deciding = PROTOCOLS[protocol].deciding
    results = [one for one in results_of(files, protocol) if one.metrics.get(deciding) is not None]
    return [one for one in results if one.train_seconds > 0], [one for one in results if not one.train_seconds > 0]


def draw(files: RunFiles, protocol: str) -> Figure:
    """The deciding metric against seconds; what is not timed stands in a panel of its own."""
    asked_for = PROTOCOLS[protocol]
    timed, others = judged(files, protocol)
    first_row = ["others", "timed", "timed"] if others else ["timed"]
    served = _served(files, protocol, timed)
    height = HEIGHT + A_NAME * max(0, len(timed) - FEW)
    if served:
        heights = (height, SERVED_HEIGHT)
        panels = [first_row, ["served"] * len(first_row)]
        made, axes = mosaic(panels, height=sum(heights), height_ratios=heights)
    else:
        made, axes = mosaic([first_row], height=height)
    ends = [end for one in (*timed, *others) for end in _ends(one, asked_for.deciding)]
    space = 0.06 * (max(ends) - min(ends)) or 0.1
    for name in set(axes) - {"served"}:
        axes[name].set_ylim(min(ends) - space, max(ends) + space)
    _points(axes["timed"], timed, protocol, [one.train_seconds for one in timed], named=False)
    first = axes["others"] if others else axes["timed"]
    first.set_ylabel(capitalised(heading_of(protocol, asked_for.deciding)))
    if others:
        axes["timed"].tick_params(axis="y", labelleft=False, length=0)
        axes["others"].set(xlim=(-0.2, 1.3), xticks=[])
        _points(axes["others"], others, protocol, [0.0] * len(others), named=True)
        axes["others"].set_xlabel("not timed", color=GREY)
        axes["others"].grid(visible=False, axis="x")
    _seconds(axes["timed"], [one.train_seconds for one in timed])
    if served:
        _requests(axes["served"], served, timed, protocol)
    handles = [
        Line2D([], [], color=color_of(one.model), marker=marker_of(one.model), label=title_of(protocol, one.model))
        for one in timed
    ]
    legend_above(made, handles, columns=3)
    return made


def _ends(result: Result, metric: str) -> Sequence[float]:
    value = result.metrics[metric]
    assert value is not None
    return result.ci95.get(metric) or (value, value)


def _points(
    panel: Axes, results: list[Result], protocol: str, x: Sequence[float], named: bool, filled: Filled = "full"
) -> None:
    """A point and its interval for each result; with its name where no legend gives it."""
    metric = PROTOCOLS[protocol].deciding
    values = [float(result.metrics[metric] or 0.0) for result in results]
    for result, value, at in zip(results, values, x):
        color = color_of(result.model)
        panel.plot([at, at], _ends(result, metric), color=color, linewidth=1.6)
        panel.plot([at], [value], marker_of(result.model), color=color, markersize=7, fillstyle=filled)
    if named:
        heights = names_apart(np.array(values), APART * float(np.diff(panel.get_ylim())[0]))
        where: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": SMALL}
        for result, height in zip(results, heights):
            panel.annotate(short_of(protocol, result.model), (0, height), (8, 0), **where)


def names_apart(value: np.ndarray, least: float) -> np.ndarray:
    """Heights for the names of points: their values, but at least so far apart, float64 [n].

    >>> names_apart(np.array([0.5, 0.1, 0.11]), 0.1).round(3).tolist()
    [0.5, 0.055, 0.155]
    """
    order = np.argsort(value, kind="stable")
    heights = [[float(value[place])] for place in order]  # groups of names that touch, each around its mean
    groups: list[list[float]] = []
    for one in heights:
        groups.append(one)
        while len(groups) > 1 and _low(groups[-1], least) < _low(groups[-2], least) + len(groups[-2]) * least:
            last = groups.pop()
            groups[-1] = groups[-1] + last
    found = np.empty(len(value))
    found[order] = [_low(group, least) + place * least for group in groups for place in range(len(group))]
    return found


def _low(group: list[float], least: float) -> float:
    return float(np.mean(group)) - least * (len(group) - 1) / 2


def _seconds(panel: Axes, seconds: list[float]) -> None:
    panel.set_xscale("log")
    panel.set_xlim(min(seconds) / FACTOR, max(seconds) * FACTOR)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("seconds of training (logarithmic)")


def _served(files: RunFiles, protocol: str, timed: list[Result]) -> Served | None:
    """What requests took, where that was measured with any of these models as they are now."""
    served = files.served(protocol)
    models = {model for by_model in served.took.values() for model in by_model} if served else set()
    return served if models & {one.model for one in timed} else None


def _requests(panel: Axes, served: Served, results: list[Result], protocol: str) -> None:
    """The deciding metric against the median milliseconds of a request, a mark for each kind."""
    for kind, (_, filled) in REQUESTS.items():
        took = served.took.get(kind, {})
        there = [one for one in results if one.model in took]
        _points(panel, there, protocol, [took[one.model].median_ms for one in there], named=False, filled=filled)
    most = max(one.median_ms for by_model in served.took.values() for one in by_model.values())
    panel.set_xlim(0, 1.15 * most)
    panel.set_ylabel(capitalised(heading_of(protocol, PROTOCOLS[protocol].deciding)))
    marks = ", ".join(words for words, _ in REQUESTS.values())
    panel.set_xlabel(f"milliseconds of a request to Triton, median\n({marks})")


def _requests_in_words(served: Served, protocol: str) -> str:
    """The medians of each kind of request, and how they were measured."""
    kinds = {kind: by_model for kind, by_model in served.took.items() if by_model}
    parts = [
        f"{kind} {listed(f'{title_of(protocol, model)} {one.median_ms:.1f} ms' for model, one in by_model.items())}"
        for kind, by_model in kinds.items()
    ]
    fewest = min(one.requests for by_model in kinds.values() for one in by_model.values())
    return (
        f"A request to Triton, median: {'; '.join(parts)}; {fewest:,} of each kind by one client, through the front "
        f"door, all on one machine ({served.device})."
    )


def text(files: RunFiles, protocol: str) -> str:
    """The seconds of each trained model and the milliseconds of requests, or how to measure these."""
    timed, others = judged(files, protocol)
    metric = PROTOCOLS[protocol].deciding
    names = {one.model: title_of(protocol, one.model) for one in (*timed, *others)}
    parts = [f"{names[one.model]} {one.metrics[metric]:.3f} in {one.train_seconds:,.0f} s" for one in timed]
    rest = f" Not timed: {listed([names[one.model] for one in others])}." if others else ""
    served = _served(files, protocol, timed)
    if served:
        requests = _requests_in_words(served, protocol)
    else:
        requests = f"How long a request to Triton takes was not measured with these networks; {NOTEBOOK} does that."
    return (
        f"{capitalised(heading_of(protocol, metric))} and seconds of training: {listed(parts)}.{rest} {requests} "
        f"{METHOD}; {asked(timed[0])}."
    )


def lacking(files: RunFiles, protocol: str) -> str:
    """Says so where no training was timed; else empty."""
    if reason := without_results(files, protocol):
        return reason
    files.served(protocol)  # a file that cannot be read is said to be one
    timed, _ = judged(files, protocol)
    return "" if timed else f"No model that is judged by {protocol} was trained, or none has its deciding metric."


add_for_each_protocol(Kind(name="cost", title="Quality against cost", draw=draw, text=text, lacking=lacking), place=90)
