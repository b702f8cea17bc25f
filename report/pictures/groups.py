"""Protocols that are asked together, as the five folds: every metric's mean over them, and each one's value."""

from functools import partial

from matplotlib.figure import Figure

from models.protocols.base import PROTOCOLS, protocol_groups
from report.drawing import direction, dot_with_figure, rows
from report.files import RunFiles
from report.folded import folded, title_of_group
from report.picture import COMPARISON, Picture, add
from report.pictures.intervals import metrics_asked, panels, title_of_panel
from report.style import capitalised, color_of, heading_of, listed, short_of, title_of

POSITION = 9_000  # after the pictures of single protocols


def draw(group: str, files: RunFiles) -> Figure:
    """A panel for each metric, a row for each model: small marks are the folds, the large one their mean."""
    models = folded(files, group)
    protocol = protocol_groups()[group][0]
    metrics = metrics_asked(protocol)
    made, axes, across = panels(len(metrics), len(models))
    for place, (panel, (metric, higher)) in enumerate(zip(axes, metrics.items())):
        rows(panel, [short_of(protocol, one.model) for one in models], labelled=place % across == 0)
        panel.set_title(title_of_panel(protocol, metric))
        for row, one in enumerate(models):
            values, mean = one.values(metric), one.mean(metric)
            panel.plot(values, [row] * len(values), "|", color=color_of(one.model), markersize=9, alpha=0.8)
            dot_with_figure(panel, row, mean, None, one.model)
        direction(panel, higher)
        panel.margins(x=0.12)
    return made


def text(group: str, files: RunFiles) -> str:
    """The mean and the standard deviation of the deciding metric of each model."""
    protocols = protocol_groups()[group]
    first, deciding = protocols[0], PROTOCOLS[protocols[0]].deciding
    models = folded(files, group)
    found = []
    for one in models:
        mean, deviation = one.mean(deciding), one.deviation(deciding)
        figure = "undefined" if mean is None else f"{mean:.3f}"
        found.append(f"{title_of(first, one.model)} {figure}" + (f" (sd {deviation:.3f})" if deviation else ""))
    rated = sum(result.test_rows or 0 for result in models[0].results)
    tested = f", {rated:,} test rows" if rated else ""
    return (
        f"{capitalised(heading_of(first, deciding))}, mean of {len(protocols)} {group} and standard deviation over "
        f"them: {listed(found)}. Strokes: each of the {group}; {first} to {protocols[-1]}{tested}, "
        f"seed {models[0].results[0].seed}."
    )


def lacking(group: str, files: RunFiles) -> str:
    """Says so where no model is judged by every protocol of the group; else empty."""
    if folded(files, group):
        return ""
    first, *_, last = protocol_groups()[group]
    train = files.run.command(f"train --protocol {group}")
    return f"No model is judged by each of {first} to {last}; run: {train}, then evaluate."


for place, name in enumerate(protocol_groups()):
    add(
        Picture(
            name=name,
            section=COMPARISON,
            title=title_of_group(name),
            protocol=name,
            draw=partial(draw, name),
            text=partial(text, name),
            lacking=partial(lacking, name),
        ),
        position=POSITION + place,
    )
