"""How pictures look: names, colours and units, each defined once.

The colours are those of Okabe and Ito, "Color Universal Design", 2008, which people who are colour-blind tell apart.
The background is transparent. Text and axes are black, which a page with a dark mode replaces by its own text colour.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from core.registry import Registry
from models.baselines.base import BASELINES, baselines_of
from models.evaluation.metrics.base import heading, metrics_of, plain_name
from models.protocols.base import PROTOCOLS

if TYPE_CHECKING:
    from matplotlib.typing import HashableList

    from models.networks.base import Network

Dashes = tuple[int, tuple[float, ...]]  # a line style: the offset, and lengths of strokes and gaps in points

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#767676",
)
INK = "#000000"  # of text and axes
ON_BOTH = (BLUE, VERMILION, GREEN, GREY)  # what large text can be read in on white and on near black
NAVY = "#10243a"  # of what is drawn upon a light colour, whatever the page's own text colour is
# Of the networks that are compared, in the order of the registry.
COMPARED_COLORS = (BLUE, VERMILION, GREEN, PINK, SKY, ORANGE)
COMPARED_MARKERS = ("o", "s", "^", "D", "v", "P")
COMPARED_LINES = ("-", "--", "-.", ":")
# Of what they are compared with: tones of little chroma, as far apart as people who are colour-blind can tell.
QUIET_COLORS = ("#956646", "#7E92C1", "#765E77", "#A08BA5", "#5D6990", GREY)
QUIET_MARKERS = ("D", "v", "P", "X", "*", "<", ">", "p", "d", "h", "8")
QUIET_LINES: tuple[Dashes, ...] = tuple(
    (0, dashes)
    for dashes in ((4, 1.5), (1, 1.2), (4, 1.5, 1, 1.5), (7, 2), (1, 3), (7, 2, 1, 2, 1, 2), (2, 2), (9, 1.5, 2, 1.5))
)
COMPARED_WIDTH, QUIET_WIDTH = 1.8, 1.2  # points
SECONDS_A_DAY = 86_400
ABBREVIATION = re.compile(r" \((\w+)\)$")
PASSES = 8  # of a layout, at most
SETTLED = 5e-4  # of the figure's width or height, which cannot be seen
WIDTH = 5.6  # inches: on a phone of 390 pixels, where it is shrunk, the text is still 9 pixels high
SETTINGS = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "marquee",  # so that the same figures give the same file
}


@contextmanager
def styled() -> Iterator[None]:
    """The look of every picture, while it is drawn."""
    with matplotlib.rc_context(SETTINGS):
        yield


def figure(rows: int = 1, columns: int = 1, height: float = 3.4, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row.

    Args:
        height, width: of the whole figure, in inches.
    """
    with styled():
        made = Figure(figsize=(width, height), layout="constrained")
        axes = made.subplots(rows, columns, squeeze=False)
    return made, list(axes.flat)


def mosaic(
    panels: list[list[str]],
    height: float = 3.4,
    width: float = WIDTH,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure with panels of several sizes.

    Args:
        panels: the name of the panel in each cell; one that stands in several cells takes them all.
        height, width: of the whole figure, in inches.
        height_ratios: of the rows, where they are not equally high.
    """
    with styled():
        made = Figure(figsize=(width, height), layout="constrained")
        cells: list[HashableList[str]] = [[*row] for row in panels]
        return made, made.subplot_mosaic(cells, height_ratios=height_ratios)


def settle(figure: Figure) -> None:
    """Lays a figure out until nothing moves: panels of a fixed shape beside a legend take several passes.

    Without, the words at the figure's edge may be cut off.
    """
    places: list[float] = []
    for _ in range(PASSES):
        before = places
        figure.draw_without_rendering()
        places = [end for axes in figure.axes for end in axes.get_position().extents]
        if before and np.allclose(before, places, atol=SETTLED):
            return


def networks() -> "Registry[Network]":
    """The networks by name. Importing them imports Merlin, which takes seconds: pictures of the data do without."""
    from models.networks.base import NETWORKS

    return NETWORKS


@dataclass(frozen=True)
class Look:
    """How a model is drawn: colour, marker and line, so that no reader needs the colour.

    Attributes:
        is_quiet: whether it is drawn in a quieter tone: it is a baseline.
    """

    color: str
    marker: str
    line: str | Dashes
    is_quiet: bool

    @property
    def width(self) -> float:
        """Of its line, in points."""
        return QUIET_WIDTH if self.is_quiet else COMPARED_WIDTH


def look_of(model: str) -> Look:
    """How a model is drawn. Baselines are drawn in quieter tones than the networks that are compared.

    No two models that are registered have the same colour and marker, nor the same colour and line.
    """
    known = networks()
    loud = [name for name, network in known.items() if not network.is_baseline]
    if model in loud:
        place = loud.index(model)
        color, marker, line = (one[place % len(one)] for one in (COMPARED_COLORS, COMPARED_MARKERS, COMPARED_LINES))
        return Look(color, marker, line, is_quiet=False)
    quiet = list(dict.fromkeys([*known, *(key.partition("/")[2] for key in BASELINES)]))
    quiet = [name for name in quiet if name not in loud]
    place = quiet.index(model) if model in quiet else -1
    color, marker = (one[place % len(one)] for one in (QUIET_COLORS, QUIET_MARKERS))
    return Look(color, marker, QUIET_LINES[place % len(QUIET_LINES)], is_quiet=True)


def color_of(model: str) -> str:
    """A model's colour; grey for one that is not registered."""
    return look_of(model).color


def marker_of(model: str) -> str:
    """A model's marker."""
    return look_of(model).marker


def line_of(model: str) -> str | Dashes:
    """A model's line style."""
    return look_of(model).line


def title_of(protocol: str, model: str) -> str:
    """A model's name in tables, legends and sentences, such as `DLRM` or `Popularity`.

    Where it is not registered, the name itself.
    """
    known = networks().get(model) or baselines_of(protocol).get(model)
    return known.title if known else model


def short_of(protocol: str, model: str) -> str:
    """The same where there is little space: the abbreviation that the name ends with in brackets, where it has one."""
    name = title_of(protocol, model)
    return found[1] if (found := ABBREVIATION.search(name)) else name


def heading_of(protocol: str, metric: str) -> str:
    """A metric's name in tables and pictures, such as `HR@10, all movies`."""
    task = PROTOCOLS[protocol].task
    known = plain_name(metric) in metrics_of(task)
    return heading(task, metric).replace("\n", ", ") if known else metric


# -- words and numbers -------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share in words, with one decimal where that is not 0.

    >>> percent(0.3417), percent(0.25)
    ('34.2 %', '25 %')
    """
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "rating"), counted(1682, "movie")
    ('1 rating', '1,682 movies')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def capitalised(words: str) -> str:
    """Words that stand alone, as a title does.

    >>> capitalised("log loss"), capitalised("HR@10")
    ('Log loss', 'HR@10')
    """
    return words[:1].upper() + words[1:]


def listed(words: Iterable[str]) -> str:
    """Words one after the other, the last behind `and`.

    >>> listed(["HR@10"]), listed(["HR@10", "AUC", "NDCG@10"])
    ('HR@10', 'HR@10, AUC and NDCG@10')
    """
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def count_axis(axis: Axis, bins: int = 6) -> None:
    """Makes an axis one of counts: whole numbers, 30k for 30,000."""
    axis.set_major_locator(whole_numbers(bins))
    axis.set_major_formatter(EngFormatter(sep=""))


def whole_numbers(bins: int) -> MaxNLocator:
    """Places ticks at whole numbers only, at most one more than `bins`."""
    return MaxNLocator(bins, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def percent_axis(axis: Axis) -> None:
    """Makes an axis one of shares from 0 to 1, shown as 0 % to 100 %."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))


def literal(texts: Iterable[Text]) -> None:
    """Keeps matplotlib from reading a title with two dollar signs as a formula."""
    for text in texts:
        text.set_parse_math(False)
