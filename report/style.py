"""How pictures look: names, colours and units, each defined once.

The colours are those of Okabe and Ito, "Color Universal Design", 2008, which people who are colour-blind tell apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.baselines.base import baselines_of
from models.evaluation.metrics.base import columns_of
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#767676",
)
NETWORK_COLORS = (BLUE, VERMILION, GREEN, PINK, SKY, ORANGE)  # in the order of the registry
NETWORK_MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 7.2  # inches
SETTINGS = {
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
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


def color_of(model: str) -> str:
    """A network's colour; grey for what it is compared with."""
    names = list(NETWORKS)
    return NETWORK_COLORS[names.index(model) % len(NETWORK_COLORS)] if model in names else GREY


def marker_of(model: str) -> str:
    """A network's marker, so that no reader needs the colour."""
    names = list(NETWORKS)
    return NETWORK_MARKERS[names.index(model) % len(NETWORK_MARKERS)] if model in names else "d"


def title_of(protocol: str, model: str) -> str:
    """A model's name in tables and pictures, such as `DLRM` or `Popularity`."""
    return (NETWORKS[model] if model in NETWORKS else baselines_of(protocol)[model]).title


def heading_of(protocol: str, metric: str) -> str:
    """A metric's name in tables and pictures, such as `HR@10, all movies`."""
    columns = columns_of(PROTOCOLS[protocol].task)
    return next((title.replace("\n", ", ") for title, name in columns if name == metric), metric)
