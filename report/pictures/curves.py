"""Curves: HR@k and NDCG@k at every cut-off, ROC and precision-recall."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.constants import K
from models.evaluation.kept import FULL_CATALOGUE, ROWS, SAMPLED
from report.calculations.ranks import Curve, curves_of
from report.calculations.scores import Points, average_precision, precision_recall, roc, thinned
from report.drawing import legend_above, nothing
from report.files import RunFiles
from report.judged import (
    CLASSIFICATION,
    RANKING,
    REMEMBERED,
    Kind,
    add_for_each_protocol,
    compared_among,
    models_with,
    without_kept,
)
from report.style import GREY, figure, listed, look_of, percent, title_of
from report.words import METHOD, asked, with_interval

AUC = "auc"  # the metric that a ROC curve encloses
MOST = 50  # the largest k
MARKED = [1, 5, 10, 20, 30, 40, 50]  # where a curve has its marker


def looks(files: RunFiles, protocol: str) -> dict[str, dict[str, Any]]:
    """How each model's line is drawn: the compared networks have markers, and stand above the others."""
    found: dict[str, dict[str, Any]] = {}
    for model in files.models(protocol):
        look = look_of(model)
        found[model] = {"color": look.color, "linestyle": look.line, "linewidth": look.width, "zorder": 2}
        if not look.is_quiet:
            found[model] |= {"marker": look.marker, "markersize": 4.5, "zorder": 3}
    return found


def _legend(made: Figure, labels: dict[str, str], drawn: dict[str, dict[str, Any]], columns: int) -> None:
    """A legend above the panels: the label of each model."""
    handles = [Line2D([], [], label=label, **drawn[model]) for model, label in labels.items()]
    legend_above(made, handles, columns, handlelength=2.8, fontsize=9.5)


# -- at every cut-off --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=REMEMBERED)
def at_each_k(files: RunFiles, protocol: str, model: str, part: str) -> tuple[Curve, Curve] | None:
    """HR@k and NDCG@k of a model for k from 1 to `MOST`; None where no user was asked."""
    rank = files.kept(protocol, model, part)["rank"].to_numpy()
    return curves_of(rank, MOST, files.result(protocol, model).seed) if len(rank) else None


PARTS = {FULL_CATALOGUE: "all movies", SAMPLED: "sampled"}


def draw_cut_offs(files: RunFiles, protocol: str) -> Figure:
    """HR@k and NDCG@k among all movies and among the sampled ones; bands are the compared networks' intervals."""
    drawn = looks(files, protocol)
    drawn_models = files.models(protocol)
    made, axes = figure(2, 2, height=6.0 + 0.1 * len(drawn_models))
    for row, (part, words) in enumerate(PARTS.items()):
        models = models_with(files, protocol, part)
        for column, metric in enumerate(("HR", "NDCG")):
            panel = axes[2 * row + column]
            panel.set(title=f"{metric}@k, {words}", xlabel="k", xlim=(0, MOST), xticks=(1, *range(K, MOST + 1, K)))
            for model in models:
                curves = at_each_k(files, protocol, model, part)
                if curves:
                    _curve(panel, curves[column], drawn[model], model in compared_among(models))
            panel.set_ylim(bottom=0)
            if not models:
                nothing(panel, "not kept")
    _legend(made, {model: title_of(protocol, model) for model in drawn_models}, drawn, columns=3)
    return made


def _curve(panel: Axes, curve: Curve, look: dict[str, Any], with_band: bool) -> None:
    k = np.arange(1, len(curve.value) + 1)
    if with_band:
        panel.fill_between(k, curve.low, curve.high, color=look["color"], alpha=0.15, linewidth=0)
    marked: dict[str, Any] = {"markevery": [at - 1 for at in MARKED if at <= len(k)]} if "marker" in look else {}
    panel.plot(k, curve.value, **look, **marked)


def text_cut_offs(files: RunFiles, protocol: str) -> str:
    """HR@1, HR@10 and HR@50 of the compared networks, among all movies where that is there."""
    part = FULL_CATALOGUE if models_with(files, protocol, FULL_CATALOGUE) else SAMPLED
    sentences = []
    for model in compared_among(models_with(files, protocol, part)):
        curves = at_each_k(files, protocol, model, part)
        if curves:
            values = [f"{curves[0].value[k - 1]:.3f}" for k in (1, K, MOST)]
            sentences.append(f"{title_of(protocol, model)} {' / '.join(values)}")
    counts = {FULL_CATALOGUE: "full_catalogue_users", SAMPLED: "test_users"}
    result = files.result(protocol, models_with(files, protocol, part)[0])
    shown = f"HR@1 / HR@{K} / HR@{MOST}, {PARTS[part]}: {listed(sentences)}. " if sentences else ""
    return f"{shown}Bands: {METHOD}; {asked(result, *counts.values())}."


add_for_each_protocol(
    Kind(
        name="cut-offs",
        title="HR@k and NDCG@k",
        draw=draw_cut_offs,
        text=text_cut_offs,
        lacking=lambda files, protocol: without_kept(files, protocol, SAMPLED),
        task=RANKING,
    ),
    place=30,
)


# -- ROC and precision-recall ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Separation:
    """How a model's scores separate rows with label 1 from those with 0.

    Attributes:
        roc, precision_recall: the curves, thinned to what can be seen.
        average_precision: the area under the second, before it was thinned.
        positives: the share of the rows with label 1.
    """

    roc: Points
    precision_recall: Points
    average_precision: float
    positives: float


@lru_cache(maxsize=REMEMBERED)
def separation(files: RunFiles, protocol: str, model: str) -> Separation:
    """The curves of a model's kept rows."""
    table = files.kept(protocol, model, ROWS)
    label, score = table["label"].to_numpy(), table["score"].to_numpy()
    steps = precision_recall(label, score)
    share = float((label > 0).mean())
    return Separation(thinned(roc(label, score)), thinned(steps), average_precision(steps), share)


def draw_separation(files: RunFiles, protocol: str) -> Figure:
    """The two curves side by side, with the areas in the legend: the AUC is that of `evaluation.json`."""
    models = models_with(files, protocol, ROWS)
    drawn = looks(files, protocol)
    made, (left, right) = figure(1, 2, height=3.1 + 0.2 * len(models))
    labels = {}
    for model in models:
        found, result = separation(files, protocol, model), files.result(protocol, model)
        look = {key: value for key, value in drawn[model].items() if key not in ("marker", "markersize")}
        left.plot(found.roc.x, found.roc.y, **look)
        right.plot(found.precision_recall.x, found.precision_recall.y, drawstyle="steps-pre", **look)
        _mark(left, found.roc, drawn[model], models.index(model))
        _mark(right, found.precision_recall, drawn[model], models.index(model))
        area = with_interval(result.metrics.get(AUC), result.ci95.get(AUC))
        labels[model] = f"{title_of(protocol, model)}: AUC {area}, AP {found.average_precision:.3f}"
    left.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    right.axhline(separation(files, protocol, models[0]).positives, color=GREY, linewidth=0.8)
    left.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    right.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    for panel in (left, right):
        panel.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    _legend(made, labels, drawn, columns=1)
    return made


def _mark(panel: Axes, curve: Points, look: dict[str, Any], turn: int) -> None:
    """A few markers along a network's curve, each network's elsewhere."""
    if "marker" in look:
        places = np.linspace(0.15, 0.85, 4) + 0.05 * turn
        at = np.clip(np.searchsorted(curve.x, places), 0, len(curve.x) - 1)
        panel.plot(curve.x[at], curve.y[at], **{**look, "linestyle": "none"})


def text_separation(files: RunFiles, protocol: str) -> str:
    """The AUC of the compared networks, and the share of positives."""
    models = models_with(files, protocol, ROWS)
    found = [
        f"{title_of(protocol, result.model)} {with_interval(result.metrics.get(AUC), result.ci95.get(AUC))}"
        for result in (files.result(protocol, model) for model in compared_among(models) or models)
    ]
    share = separation(files, protocol, models[0]).positives
    return (
        f"AUC: {listed(found)}. {percent(share)} of the rows are positive, the level line on the right; AP is average "
        f"precision. {METHOD}; {asked(files.result(protocol, models[0]), 'test_rows')}"
        f"{of_the_rows(files, protocol, models[0])}."
    )


def of_the_rows(files: RunFiles, protocol: str, model: str) -> str:
    """How many of the test rows were kept, as the end of a caption; empty where all were."""
    kept, there = len(files.kept(protocol, model, ROWS)), files.result(protocol, model).test_rows
    return "" if there in (None, kept) else f"; drawn from {kept:,} of them"


def without_two_labels(files: RunFiles, protocol: str) -> str:
    """Says so where there are no rows, or all have the same label; else empty."""
    if reason := without_kept(files, protocol, ROWS):
        return reason
    labels = files.kept(protocol, models_with(files, protocol, ROWS)[0], ROWS)["label"]
    if len(labels) and 0 < (labels > 0).mean() < 1:
        return ""
    return f"The test rows of {protocol} all have the same label."


add_for_each_protocol(
    Kind(
        name="separation",
        title="ROC and precision-recall",
        draw=draw_separation,
        text=text_separation,
        lacking=without_two_labels,
        task=CLASSIFICATION,
    ),
    place=30,
)
