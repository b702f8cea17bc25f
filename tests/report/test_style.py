"""Colours can be told apart and read; numbers are written in one way."""

from itertools import combinations, product

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from core.run_folder import Run
from models.baselines.base import baselines_of
from models.protocols.base import PROTOCOLS
from report.files import RunFiles
from report.picture import DATA, PICTURES, Picture, add
from report.style import (
    COMPARED_COLORS,
    GREY,
    NAVY,
    ON_BOTH,
    QUIET_COLORS,
    SKY,
    VERMILION,
    count_axis,
    figure,
    heading_of,
    look_of,
    percent_axis,
    short_of,
    title_of,
)
from tests.names import COMPARED, EVERY_NETWORK

STAND_OUT = (*COMPARED, "sasrec")  # the networks that are compared
MODELS = tuple(dict.fromkeys([*EVERY_NETWORK, *(name for one in PROTOCOLS for name in baselines_of(one))]))

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009:
# what people without one kind of cones see of linear RGB.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(color: str) -> np.ndarray:
    """Linear red, green and blue of an sRGB colour."""
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.1."""
    light, dark = sorted((float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, for the white point D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(rgb, 0, 1), 1e-3, None) / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("page", ["#ffffff", "#14171b"])
def test_words_can_be_read_on_a_light_page_and_on_a_dark_one(page):
    assert min(contrast(color, page) for color in ON_BOTH) >= 3


def test_what_is_drawn_in_a_box_can_be_seen_in_it():
    assert contrast(NAVY, SKY) >= 4.5
    assert contrast(VERMILION, SKY) >= 1.5  # a diamond beside the line, told apart by its form


def apart(one: str, other: str, seen: np.ndarray) -> float:
    """How different two colours look (CIE76)."""
    return float(np.linalg.norm(lab(seen @ linear(one)) - lab(seen @ linear(other))))


@pytest.mark.parametrize("blindness", [None, *BLINDNESS])
def test_models_are_told_apart_without_some_cones(blindness):
    seen = np.eye(3) if blindness is None else np.array(BLINDNESS[blindness])
    loud = COMPARED_COLORS[: len(STAND_OUT)]
    assert min(apart(*pair, seen) for pair in combinations(loud, 2)) > 15
    assert min(apart(*pair, seen) for pair in product(loud, QUIET_COLORS)) > 10
    assert min(apart(*pair, seen) for pair in combinations(QUIET_COLORS, 2)) > 10


@pytest.mark.parametrize("page", ["#ffffff", "#14171b"])
def test_a_thin_line_can_be_seen_on_a_light_page_and_on_a_dark_one(page):
    assert min(contrast(color, page) for color in (*COMPARED_COLORS[: len(STAND_OUT)], *QUIET_COLORS)) >= 3


def chroma(color: str) -> float:
    return float(np.hypot(*lab(linear(color))[1:]))


def test_baselines_are_drawn_in_quieter_tones_and_thinner():
    quiet = [look_of(name) for name in MODELS if name not in STAND_OUT]
    loud = [look_of(name) for name in STAND_OUT]
    assert max(chroma(look.color) for look in quiet) < min(chroma(look.color) for look in loud)
    assert max(look.width for look in quiet) < min(look.width for look in loud)


def test_every_model_looks_different():
    looks = [look_of(name) for name in MODELS]
    assert len({(look.color, look.marker) for look in looks}) == len(MODELS)
    assert len({(look.color, look.line) for look in looks}) == len(MODELS)
    networks = [look_of(name) for name in EVERY_NETWORK]
    assert len({look.color for look in networks}) == len({look.marker for look in networks}) == len(networks)
    assert len({look.line for look in networks}) == len(networks)


def test_a_model_that_is_not_registered_is_grey():
    assert look_of("of-another-notebook").color == GREY


def test_titles_are_those_of_the_tables():
    assert [title_of("leave-one-out", name) for name in ("dlrm", "popularity")] == ["DLRM", "Popularity"]
    assert title_of("leave-one-out", "of-another-notebook") == "of-another-notebook"
    assert heading_of("leave-one-out", "full_hr@10") == "HR@10, all movies"
    assert heading_of("random-split", "log_loss") == "log loss"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_name_begins_with_a_capital(protocol):
    names = [title_of(protocol, model) for model in (*EVERY_NETWORK, *baselines_of(protocol))]
    assert [name for name in names if not name[0].isupper()] == []


def test_a_name_that_ends_with_its_abbreviation_has_a_short_form():
    assert [short_of("leave-one-out", name) for name in ("dlrm", "mf", "itemknn")] == ["DLRM", "MF", "ItemKNN"]


def test_counts_and_shares_are_written_as_people_read_them():
    made, (axis,) = figure()
    axis.plot([0, 40_000], [0, 1])
    count_axis(axis.xaxis)
    percent_axis(axis.yaxis)
    made.canvas.draw()
    assert "20k" in [text.get_text() for text in axis.get_xticklabels()]
    assert "50 %" not in [text.get_text() for text in axis.get_xticklabels()]
    assert {"0 %", "100 %"} <= {text.get_text() for text in axis.get_yticklabels()}


def test_a_count_of_one_has_no_tick_between_whole_numbers():
    made, (axis,) = figure()
    axis.bar([0], [1])
    count_axis(axis.yaxis)
    made.canvas.draw()
    assert {text.get_text() for text in axis.get_yticklabels()} <= {"0", "1", "2"}


def test_a_picture_is_drawn_in_the_style_of_all_and_a_missing_file_is_a_reason(tmp_path):
    def draw(files: RunFiles) -> Figure:
        assert matplotlib.rcParams["svg.hashsalt"] == "marquee"
        return figure()[0]

    def lacking(files: RunFiles) -> str:
        return "" if len(files.results) else "nothing"

    add(Picture(name="probe", section=DATA, title="Probe", draw=draw, text=lambda files: "A probe.", lacking=lacking))
    try:
        files = RunFiles(Run(tmp_path / "ml-100k"))
        PICTURES["probe"].draw(files)
        reason = PICTURES["probe"].lacking(files)
        assert "evaluation.json is missing" in reason
        assert "python -m marquee evaluate" in reason
    finally:
        PICTURES.remove("probe")
    assert matplotlib.rcParams["svg.hashsalt"] is None
