"""How well probabilities are calibrated."""

from functools import lru_cache

import numpy as np
from matplotlib.figure import Figure

from models.evaluation.kept import ROWS
from report.calculations.scores import BINS, Calibration, calibration
from report.files import RunFiles
from report.judged import (
    CLASSIFICATION,
    REMEMBERED,
    Kind,
    add_for_each_protocol,
    gives_probabilities,
    models_with,
    without_kept,
)
from report.pictures.curves import of_the_rows
from report.style import GREY, color_of, figure, listed, marker_of, short_of, title_of
from report.words import METHOD, asked

ACROSS = 2  # panels
ECE = "ece"  # the metric


def probable(files: RunFiles, protocol: str) -> list[str]:
    """The models that give probabilities, of which rows were kept."""
    return [model for model in models_with(files, protocol, ROWS) if gives_probabilities(files, protocol, model)]


@lru_cache(maxsize=REMEMBERED)
def calibration_of(files: RunFiles, protocol: str, model: str) -> Calibration:
    """How well a model's probabilities fit."""
    table = files.kept(protocol, model, ROWS)
    label, probability, owner = (table[name].to_numpy() for name in ("label", "score", "user_id"))
    return calibration(label, probability.astype(np.float64), owner, files.result(protocol, model).seed)


def error_of(files: RunFiles, protocol: str, model: str) -> float:
    """The expected calibration error as `evaluation.json` has it; of the kept rows where it has none."""
    judged = files.result(protocol, model).metrics.get(ECE)
    return calibration_of(files, protocol, model).error if judged is None else judged


def draw(files: RunFiles, protocol: str) -> Figure:
    """A panel for each model: the share of positives against the mean probability of each bin."""
    models = probable(files, protocol)
    down = -(-len(models) // ACROSS)
    made, axes = figure(down, ACROSS, height=0.2 + 2.7 * down)
    for place, (panel, model) in enumerate(zip(axes, models)):
        found = calibration_of(files, protocol, model)
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        color = color_of(model)
        panel.vlines(found.predicted, found.low, found.high, color=color, linewidth=1.6)
        panel.plot(found.predicted, found.observed, marker=marker_of(model), markersize=5, color=color, linewidth=0.8)
        panel.set(title=short_of(protocol, model), xlim=(0, 1), ylim=(0, 1), aspect="equal")
        panel.text(0.04, 0.94, f"ECE {error_of(files, protocol, model):.3f}", va="top", transform=panel.transAxes)
        panel.text(0.04, 0.83, f"by chance {found.by_chance:.3f}", va="top", color=GREY, transform=panel.transAxes)
        if place >= len(models) - ACROSS:
            panel.set_xlabel("predicted probability")
        if place % ACROSS == 0:
            panel.set_ylabel("share of positives")
    for left_over in axes[len(models) :]:
        left_over.remove()
    return made


def text(files: RunFiles, protocol: str) -> str:
    """The expected calibration error of each model."""
    models = probable(files, protocol)
    errors = [f"{title_of(protocol, model)} {error_of(files, protocol, model):.3f}" for model in models]
    without = [title_of(protocol, one) for one in models_with(files, protocol, ROWS) if one not in models]
    left_out = f" {listed(without)}: no probabilities." if without else ""
    return (
        f"Expected calibration error (ECE), in {BINS} bins with equally many rows each: {listed(errors)}; by chance: "
        f"what perfectly calibrated probabilities would show.{left_out} {METHOD}; "
        f"{asked(files.result(protocol, models[0]), 'test_rows')}{of_the_rows(files, protocol, models[0])}."
    )


def lacking(files: RunFiles, protocol: str) -> str:
    """Says so where no model gives probabilities; else empty."""
    if reason := without_kept(files, protocol, ROWS):
        return reason
    models = probable(files, protocol)
    if models and len(files.kept(protocol, models[0], ROWS)):
        return ""
    return f"No model that is judged by {protocol} gives probabilities of any rows."


add_for_each_protocol(
    Kind(
        name="reliability",
        title="Reliability of probabilities",
        draw=draw,
        text=text,
        lacking=lacking,
        task=CLASSIFICATION,
    ),
    place=40,
)
