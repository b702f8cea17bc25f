"""Values with intervals, drawn the same way in every picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from report.style import GREY, color_of, marker_of

SMALL = 9.1  # points
MORE_STEPS = 8  # until there are two ticks
EDGE = 0.08  # of a panel's width, where there is no tick
LONG = 16  # letters: longer names are written smaller


def dot(
    axes: Axes,
    y: float,
    value: float | None,
    pair: Sequence[float] | None,
    model: str,
    *,
    filled: bool = True,
    label: str = "",
    size: float = 6,
) -> None:
    """One value and its interval, in the colour and with the marker of a model; nothing for None.

    Args:
        pair: low and high; without, only the value is drawn.
        filled: whether the marker is.
    """
    if value is None:
        return
    color = color_of(model)
    if pair is not None:
        axes.plot(pair, [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
    face = color if filled else "none"
    style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": color, "markersize": size, "linestyle": "none"}
    axes.plot([value], [y], marker_of(model), label=label or "_", zorder=3, **style)


class InnerTicks(MaxNLocator):
    """A few ticks that keep clear of the panel's ends, where a neighbour's labels are: at least two."""

    def __init__(self, steps: int):
        super().__init__(steps, steps=[1, 2, 5, 10])
        self._fewest = steps

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """As matplotlib asks it.

        >>> InnerTicks(2).tick_values(-0.13, 0.05)
        [-0.1, 0.0]
        """
        space = EDGE * (vmax - vmin)
        found: list[float] = []
        for steps in range(self._fewest, self._fewest + MORE_STEPS):
            self.set_params(nbins=steps)
            found = [float(at) for at in super().tick_values(vmin, vmax) if vmin + space <= at <= vmax - space]
            if len(found) > 1:
                break
        return found


def rows(axes: Axes, names: Sequence[str], labelled: bool = True, ticks: int = 2) -> None:
    """A row for each name, the first at the top.

    Args:
        labelled: whether the names are written.
        ticks: about so many steps of the axis below.
    """
    size = SMALL if max(map(len, names), default=0) > LONG else None
    axes.set_yticks(range(len(names)), names if labelled else [""] * len(names), fontsize=size)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(InnerTicks(ticks))
    axes.tick_params(axis="x", labelsize=SMALL)


def direction(axes: Axes, higher_is_better: bool) -> None:
    """Says under the axis which way is better."""
    words = "higher is better \u2192" if higher_is_better else "\u2190 lower is better"
    axes.set_xlabel(words, color=GREY, fontsize=SMALL)


def beside(axes: Axes, y: float, value: float, words: str, away: int = 0) -> None:
    """A value in figures, above its mark.

    Args:
        away: 1 for all of it to the right of the mark, -1 to the left.
    """
    align = {-1: "right", 0: "center", 1: "left"}[away]
    where: dict[str, Any] = {"textcoords": "offset points", "ha": align, "va": "bottom", "fontsize": SMALL}
    axes.annotate(words, (value, y), (-3 * away, 4), **where)


def legend_above(made: Figure, handles: Sequence[Line2D], columns: int, **look: Any) -> None:
    """A legend above the panels, in as many columns as fit the figure.

    Args:
        columns: the most.
        look: further arguments of `Figure.legend`.
    """
    for count in range(columns, 0, -1):
        legend = made.legend(handles=list(handles), loc="outside upper center", ncols=count, **look)
        if count == 1 or legend.get_window_extent().width <= made.bbox.width:
            return
        legend.remove()


def undefined(axes: Axes, row: int, at_right: bool = False) -> None:
    """Says in a row that it has no value."""
    x, align = (0.97, "right") if at_right else (0.03, "left")
    where = axes.get_yaxis_transform()
    axes.text(x, row, "undefined", color=GREY, fontsize=SMALL, ha=align, va="center", transform=where)


def dot_with_figure(axes: Axes, row: int, value: float | None, pair: Sequence[float] | None, model: str) -> None:
    """A model's dot with its interval and its figure in three decimals, or words where it is undefined."""
    dot(axes, row, value, pair, model)
    if value is None:
        undefined(axes, row)
    else:
        beside(axes, row, value, f"{value:.3f}")


def nothing(axes: Axes, reason: str) -> None:
    """A panel that has nothing to show says why."""
    axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=SMALL)
