"""Every metric with its interval, and paired differences: from `evaluation.json`, and from what was kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.evaluation.kept import FULL_CATALOGUE, ROWS, SAMPLED
from models.evaluation.metrics.base import FULL, KNOWN, spoken
from models.evaluation.paired import Basis, Difference, holm, verdict
from models.protocols.base import PROTOCOLS
from report.calculations.differences import Interval, difference_with_p, differences
from report.drawing import SMALL, beside, direction, dot, dot_with_figure, nothing, rows, undefined
from report.files import RunFiles
from report.judged import (
    RANKING,
    REMEMBERED,
    Kind,
    add_for_each_protocol,
    better_first,
    compared_among,
    judgement,
    known_judgement,
    models_with,
    part_of,
    refuse_other_questions,
    results_of,
    without_kept,
    without_results,
)
from report.style import GREY, capitalised, color_of, figure, heading_of, listed, short_of, title_of
from report.words import METHOD, asked, with_interval
from workflows.splits.base import SPLITS

COUNTS = ("test_users", "full_catalogue_users", "known_users", "test_rows")
ACROSS = 2  # panels
ROW, LOW_ROW = 0.32, 0.28  # inches, of few rows and of more
FEW = 8  # rows
APART = 3  # times as far from 0 as the two networks differ is where a panel ends


def metrics_asked(protocol: str) -> dict[str, bool]:
    """Every metric of a protocol in the order of the tables, and whether more is better."""
    asked_for = PROTOCOLS[protocol]
    over_all = [FULL + name for name, one in asked_for.metrics.items() if one.full_catalogue]
    names = dict.fromkeys([*over_all, *asked_for.metrics, *(name for _, name in asked_for.columns)])
    return {name: asked_for.metric(name).higher_is_better for name in names}


def title_of_panel(protocol: str, metric: str) -> str:
    """A metric's heading, in two lines where it is too long for half of a picture."""
    title = capitalised(heading_of(protocol, metric))
    return title.replace(", known", ",\nknown") if metric.startswith(KNOWN) else title


def panels(count: int, names: int) -> tuple[Figure, list[Axes], int]:
    """A figure with a panel for each metric, and how many panels there are side by side."""
    across = min(ACROSS, count)
    down = -(-count // across)
    made, axes = figure(down, across, height=down * (0.8 + (ROW if names <= FEW else LOW_ROW) * names))
    for left_over in axes[count:]:
        left_over.remove()
    return made, axes[:count], across


# -- every metric ------------------------------------------------------------------------------------------------------


def draw_forest(files: RunFiles, protocol: str) -> Figure:
    """A panel for each metric, a row for each model."""
    results = results_of(files, protocol)
    metrics = metrics_asked(protocol)
    made, axes, across = panels(len(metrics), len(results))
    for place, (panel, (metric, higher)) in enumerate(zip(axes, metrics.items())):
        rows(panel, [short_of(protocol, result.model) for result in results], labelled=place % across == 0)
        panel.set_title(title_of_panel(protocol, metric))
        for row, result in enumerate(results):
            dot_with_figure(panel, row, result.metrics.get(metric), result.ci95.get(metric), result.model)
        direction(panel, higher)
        panel.margins(x=0.12)
    return made


def text_forest(files: RunFiles, protocol: str) -> str:
    """The deciding metric of each model, and where it was asked without new people, that too."""
    results = results_of(files, protocol)
    deciding = PROTOCOLS[protocol].deciding
    sentences = []
    for metric in [one for one in (deciding, KNOWN + deciding) if one == deciding or one in metrics_asked(protocol)]:
        found = [
            f"{title_of(protocol, result.model)} {with_interval(result.metrics.get(metric), result.ci95.get(metric))}"
            for result in results
        ]
        sentences.append(f"{capitalised(heading_of(protocol, metric))}: {listed(found)}.")
    return f"{' '.join(sentences)} {METHOD}; {asked(results[0], *COUNTS)}."


add_for_each_protocol(
    Kind(
        name="forest",
        title="Every metric with its interval",
        draw=draw_forest,
        text=text_forest,
        lacking=without_results,
    ),
    place=10,
)


# -- paired differences ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """The differences of one model's metrics and another's, by metric; what cannot be compared is left out."""

    one: str
    other: str
    metrics: dict[str, Interval]

    def title(self, protocol: str) -> str:
        """Such as `DLRM - NCF`, with a minus sign."""
        return f"{short_of(protocol, self.one)} \u2212 {short_of(protocol, self.other)}"


@lru_cache(maxsize=REMEMBERED)
def paired(files: RunFiles, protocol: str) -> tuple[Paired, ...]:
    """Every two compared networks, then every other model against the better of them."""
    models = models_with(files, protocol, part_of(protocol))
    networks = compared_among(models)
    pairs = list(combinations(networks, 2))
    if networks:
        best = better_first(files, protocol, networks)[0]
        pairs += [(model, best) for model in models if model not in networks]
    return tuple(Paired(one, other, _differences(files, protocol, one, other)) for one, other in pairs)


def _differences(files: RunFiles, protocol: str, one: str, other: str) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    for part in _parts(protocol):
        if {one, other} <= set(models_with(files, protocol, part)):
            refuse_other_questions(files, protocol, part, (one, other))
            first, second = (judgement(files, protocol, model, part) for model in (one, other))
            found |= differences(first, second, files.result(protocol, one).seed)
            if part == FULL_CATALOGUE:
                known = [known_judgement(files, protocol, model) for model in (one, other)]
                if known[0] and known[1]:
                    found |= differences(known[0], known[1], files.result(protocol, one).seed)
    return found


def _parts(protocol: str) -> tuple[str, ...]:
    """What is kept that a protocol's metrics are of."""
    return (FULL_CATALOGUE, SAMPLED) if PROTOCOLS[protocol].task == RANKING else (ROWS,)


def draw_paired(files: RunFiles, protocol: str) -> Figure:
    """A panel for each metric, a row for each two models; hollow where the interval holds 0."""
    pairs = paired(files, protocol)
    metrics = metrics_asked(protocol)
    made, axes, across = panels(len(metrics), len(pairs))
    for place, (panel, (metric, higher)) in enumerate(zip(axes, metrics.items())):
        rows(panel, [pair.title(protocol) for pair in pairs], labelled=place % across == 0)
        panel.set_title(title_of_panel(protocol, metric))
        panel.axvline(0, color=GREY, linewidth=1)
        found = {row: pair.metrics[metric] for row, pair in enumerate(pairs) if metric in pair.metrics}
        if not found:
            nothing(panel, "nothing to compare")
        low, high = _ends(found)
        for row, one in found.items():
            _difference(panel, row, one, pairs[row].one, low, high)
        for row in set(range(len(pairs))) - set(found):
            undefined(panel, row, at_right=-low < high)  # where the line of 0 is not
        panel.set_xlim(low, high)
        direction(panel, higher)
    return made


def _ends(found: dict[int, Interval]) -> tuple[float, float]:
    """Where a panel ends: so near that the first row, the two networks, can be read."""
    if not found:
        return -1.0, 1.0
    ends = [(min(one.low, 0), max(one.high, 0)) for one in found.values()]
    most = APART * max(np.abs(ends[0])) or np.inf
    low, high = max(-most, min(low for low, _ in ends)), min(most, max(high for _, high in ends))
    space = 0.24 * (high - low) or 1.0
    return float(low - space), float(high + space)


def _difference(panel: Axes, row: int, found: Interval, model: str, low: float, high: float) -> None:
    words = f"{found.value:+.3f}".replace("-", "\u2212")
    if low <= found.low and found.high <= high:
        dot(panel, row, found.value, (found.low, found.high), model, filled=found.low > 0 or found.high < 0)
        beside(panel, row, found.value, words, away=1 if found.value > 0 else -1)  # from the line of 0
        return
    above = found.value > 0  # an arrow at the panel's edge
    edge, align = (0.97, "right") if above else (0.03, "left")
    where = panel.get_yaxis_transform()
    panel.plot([edge], [row], ">" if above else "<", color=color_of(model), markersize=6, transform=where)
    place: dict[str, Any] = {
        "xycoords": where,
        "textcoords": "offset points",
        "ha": align,
        "va": "center",
        "fontsize": SMALL,
    }
    panel.annotate(words, (edge, row), (-8 if above else 8, 0), **place)


def text_paired(files: RunFiles, protocol: str) -> str:
    """What the deciding metric says of each two networks, in the words of `compare`."""
    result = results_of(files, protocol)[0]
    part = part_of(protocol)
    sentences = verdicts_of(files, protocol, _networks(files, protocol))
    kept = len(files.kept(protocol, models_with(files, protocol, part)[0], part))
    shown = f" on {kept:,} of the rows" if result.test_rows not in (None, kept) else ""
    method = f"95 % intervals by paired bootstrap over users{shown}; hollow: 0 is inside; arrow: beyond the panel"
    return " ".join([*sentences, f"{method}; {asked(result, *COUNTS)}."])


def _networks(files: RunFiles, protocol: str) -> list[str]:
    return compared_among(models_with(files, protocol, part_of(protocol)))


def corrected_pairs(files: RunFiles, protocol: str, models: Sequence[str]) -> dict[tuple[str, str], Difference | None]:
    """The deciding metric's difference of every two of some models of one run; None where it is undefined.

    The p-values are corrected for the number of pairs (`models.evaluation.paired.holm`).
    """
    found = {pair: _deciding(files, protocol, *pair) for pair in combinations(models, 2)}
    able = {pair: one for pair, one in found.items() if one is not None}
    corrected = holm([one.p_value for one in able.values()])
    known = {pair: replace(one, p_value=p) for (pair, one), p in zip(able.items(), corrected)}
    return {pair: known.get(pair) for pair in found}


def verdicts_of(files: RunFiles, protocol: str, models: Sequence[str]) -> list[str]:
    """What the deciding metric allows to say of every two of some models of one run, a sentence each.

    Where there are several pairs, the p-values are corrected for them.
    """
    asked_of = PROTOCOLS[protocol]
    found = corrected_pairs(files, protocol, models)
    able = sum(one is not None for one in found.values())
    basis = Basis(is_only_split=not SPLITS[asked_of.split].uses_chance, pairs=able)
    metric, higher = spoken(asked_of.task, asked_of.deciding), asked_of.metric(asked_of.deciding).higher_is_better
    sentences = []
    for pair, difference in found.items():
        names = title_of(protocol, pair[0]), title_of(protocol, pair[1])
        if difference is None:
            sentences.append(f"{names[0]} and {names[1]} cannot be compared by {metric}, which is undefined.")
        else:
            sentences.append(verdict(*names, metric, difference, higher, basis))
    return sentences


@lru_cache(maxsize=REMEMBERED)
def _deciding(files: RunFiles, protocol: str, one: str, other: str) -> Difference | None:
    """The difference of two models by the deciding metric; None where it is undefined."""
    part = part_of(protocol)
    refuse_other_questions(files, protocol, part, (one, other))
    first, second = (judgement(files, protocol, model, part) for model in (one, other))
    return difference_with_p(first, second, PROTOCOLS[protocol].deciding, files.result(protocol, one).seed)


def without_pairs(files: RunFiles, protocol: str) -> str:
    """Says so where there are no two models to compare."""
    part = part_of(protocol)
    if reason := without_kept(files, protocol, part, networks=1):
        return reason
    models = models_with(files, protocol, part)
    if len(models) < 2:
        return f"Only one model is judged by {protocol}."
    for other in _parts(protocol):
        if among := models_with(files, protocol, other):
            refuse_other_questions(files, protocol, other, tuple(among))
    users = files.kept(protocol, models[0], part)["user_id"].nunique()
    return "" if users > 1 else "A difference with an interval takes at least two users."


add_for_each_protocol(
    Kind(name="paired", title="Paired differences", draw=draw_paired, text=text_paired, lacking=without_pairs), place=20
)
