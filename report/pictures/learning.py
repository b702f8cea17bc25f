"""How the networks of a protocol learned: loss and validation metrics per epoch, and which epoch was chosen."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from core.json_files import validated
from models.protocols.base import PROTOCOLS
from report.drawing import SMALL, legend_above
from report.files import RunFiles
from report.picture import LEARNING, Picture, add
from report.style import (
    INK,
    color_of,
    counted,
    heading_of,
    line_of,
    listed,
    marker_of,
    mosaic,
    networks,
    title_of,
    whole_numbers,
)

LOSS = "train_loss"
CHOSEN = "epoch that was chosen"
LONG_TITLE = 24  # letters: longer ones are written smaller where two panels share the width


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="ignore"), kw_only=True)
class Choice:
    """What `config.json` says of the epochs; see `models.training.train.TrainedConfig`."""

    seed: int
    epochs: int
    best_epoch: int
    monitor: str
    trained_on: list[str]


def learned(files: RunFiles, protocol: str) -> list[str]:
    """The networks that have left a configuration and a history."""
    folders = {name: files.run.model(protocol, name) for name in networks()}
    needed = ("config.json", "history.json")
    return [name for name, folder in folders.items() if all((folder / file).is_file() for file in needed)]


def choice(files: RunFiles, protocol: str, model: str) -> Choice:
    """Which epoch of a network was chosen, and by what."""
    where = str(files.run.model(protocol, model) / "config.json")
    return validated(Choice, files.config(protocol, model), where, files.run.command("train"))


def panels(files: RunFiles, protocol: str) -> list[str]:
    """What there is to draw: the metric that chooses, the loss, then the protocol's other metrics."""
    monitors = [choice(files, protocol, model).monitor for model in learned(files, protocol)]
    names = dict.fromkeys((*monitors, LOSS, *PROTOCOLS[protocol].metrics))
    defined = [files.history(protocol, model).notna().any() for model in learned(files, protocol)]
    return [name for name in names if any(one.get(name, False) for one in defined)]


def title(protocol: str, panel: str) -> str:
    """A panel's title."""
    return "Training loss" if panel == LOSS else f"Validation {heading_of(protocol, panel)}"


def draw(protocol: str, files: RunFiles) -> Figure:
    names, models = panels(files, protocol), learned(files, protocol)
    first, *rest = names
    pairs = [[one, two] for one, two in zip(rest[::2], [*rest[1::2], rest[-1]])] if rest else []
    made, axes = mosaic([[first, first], *pairs], height=2.9 + 2.1 * len(pairs))
    for name, axis in axes.items():
        _panel(axis, files, protocol, name)
        axis.xaxis.set_major_locator(whole_numbers(9 if name == first else 5))
        if name != first and len(axis.get_title()) > LONG_TITLE:
            axis.title.set_fontsize(SMALL)
    handles = [
        Line2D(
            [], [], color=color_of(one), marker=marker_of(one), linestyle=line_of(one), label=title_of(protocol, one)
        )
        for one in models
    ]
    if any(line.get_label() == CHOSEN for axis in axes.values() for line in axis.lines):
        handles.append(ring([], []))
    legend_above(made, handles, columns=3)
    return made


def ring(epochs: list[int], values: list[float]) -> Line2D:
    """What marks the epochs that were chosen."""
    look = Line2D(epochs, values, marker="o", markersize=13, markerfacecolor="none", linestyle="none", label=CHOSEN)
    look.set_markeredgecolor(INK)
    return look


def _panel(axis: Axes, files: RunFiles, protocol: str, name: str) -> None:
    for model in learned(files, protocol):
        rows, chosen = files.history(protocol, model), choice(files, protocol, model)
        if name not in rows:
            continue
        (line,) = axis.plot(rows.index, rows[name], color=color_of(model), markersize=4, label=model)
        line.set(marker=marker_of(model), linestyle=line_of(model))
        value = value_at(rows, name, chosen.best_epoch)
        if name == chosen.monitor and np.isfinite(value):
            axis.add_line(ring([chosen.best_epoch], [value]))
    longest = max(len(files.history(protocol, model)) for model in learned(files, protocol))
    axis.set(title=title(protocol, name), xlabel="epoch", xlim=(0.5, longest + 0.5))
    axis.margins(y=0.15)


def text(protocol: str, files: RunFiles) -> str:
    chosen = {model: choice(files, protocol, model) for model in learned(files, protocol)}
    seeds = listed(map(str, dict.fromkeys(one.seed for one in chosen.values())))
    sentences = [*_chosen(protocol, files, chosen)]
    again = [title_of(protocol, model) for model, one in chosen.items() if "valid" in one.trained_on]
    if again:
        which = "All" if len(again) == len(chosen) > 1 else listed(again)
        sentences.append(f"{which} then started again and learned for as many epochs from the validation rows too")
    if len(chosen) > 1:
        sentences.append("Training losses are of each network's own kind and do not compare")
    return f"{'. '.join(sentences)}; {protocol}, seed {seeds}."


def _chosen(protocol: str, files: RunFiles, chosen: dict[str, Choice]) -> Iterator[str]:
    """A sentence for each metric that chose, and for each network whose metric is undefined."""
    found = defaultdict[str, list[str]](list)
    for model, one in chosen.items():
        rows, heading, name = (
            files.history(protocol, model),
            heading_of(protocol, one.monitor),
            title_of(protocol, model),
        )
        value = value_at(rows, one.monitor, one.best_epoch)
        if np.isfinite(value):
            found[heading].append(f"epoch {one.best_epoch} of {one.epochs} for {name} ({value:.3f})")
        else:
            yield f"{name} kept the last of {counted(one.epochs, 'epoch')}, as validation {heading} is undefined"
    yield from (f"Validation {heading} chose {listed(epochs)}" for heading, epochs in found.items())


def value_at(rows: pd.DataFrame, metric: str, epoch: int) -> float:
    """A metric at an epoch; NaN where it is undefined."""
    return float(rows[metric].get(epoch, np.nan)) if metric in rows else np.nan


def lacking(protocol: str, files: RunFiles) -> str:
    if learned(files, protocol):
        return ""
    return f"No network has been trained for {protocol} yet; run: {files.run.command(f'train --protocol {protocol}')}"


for place, name in enumerate(name for name, protocol in PROTOCOLS.items() if not protocol.group):
    add(
        Picture(
            name=f"learning-{name}",
            section=LEARNING,
            title=f"Learning curves, {name}",
            protocol=name,
            draw=partial(draw, name),
            text=partial(text, name),
            lacking=partial(lacking, name),
        ),
        30 + place,
    )
