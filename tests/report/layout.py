"""Where the words of a figure are, to see that all can be read."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from report.style import settle

INK = 0.7  # of the height of a line of text is what its letters take, about


def texts(figure: Figure) -> dict[str, Bbox]:
    """The words that are drawn, with a number behind them, and where, in pixels from the lower left corner."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    settle(figure)
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axes.axison:
                unseen.update(axis.findobj(Text))
            low, high = sorted(axis.get_view_interval())
            space = 1e-9 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low - space <= tick.get_loc() <= high + space:
                    unseen.update((tick.label1, tick.label2))
    found = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip() and one not in unseen]
    return {f"{one.get_text()} #{place}": one.get_window_extent(renderer) for place, one in enumerate(found)}


def cut_off(found: dict[str, Bbox], figure: Figure) -> list[str]:
    """Those of its `texts` that reach over the figure's edge."""
    room = figure.bbox.padded(1)
    return [
        name
        for name, box in found.items()
        if not (room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1)
    ]


def touching(found: dict[str, Bbox]) -> list[tuple[str, str]]:
    """The pairs of a figure's `texts` of which one covers a part of the other."""
    boxes = {name: _ink(box) for name, box in found.items()}
    return [
        (one, other) for one, other in combinations(boxes, 2) if Bbox.intersection(boxes[one], boxes[other]) is not None
    ]


def _ink(box: Bbox) -> Bbox:
    shrink = (1 - INK) / 2 * min(box.width, box.height)
    return Bbox.from_extents(box.x0, box.y0, box.x1, box.y1).padded(-shrink)
