"""NVTabular's graphs as pictures: every operator a box, from the columns of the input to those of the output."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import core.gpu  # noqa: F401

import nvtabular as nvt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from merlin.dag.node import postorder_iter_nodes

from report.style import BLUE, GREEN, GREY, figure, styled

BOX = (1.52, 0.62)  # inches
STEP = (1.85, 0.86)  # inches from one box to the next
LINE = 0.145  # inches from one line of text to the next
TURN = 0.26  # inches before its end where an arrow leaves its row
LETTERS = 21  # of a line in a box


def draw_workflow(workflow: nvt.Workflow) -> Figure:
    """A fitted workflow's graph, from left to right."""
    nodes = list(postorder_iter_nodes(workflow.output_node))
    places = _places(nodes)
    columns, rows = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    made, (axes,) = figure(height=rows * STEP[1] + 0.15, width=columns * STEP[0])
    with styled():
        axes.set(xlim=(0, columns * STEP[0]), ylim=(rows * STEP[1], 0))
        axes.axis("off")
        for node in nodes:
            for parent in node.parents_with_dependencies:
                _arrow(axes, places[parent], places[node])
            _box(axes, places[node], node, is_last=node is nodes[-1])
    return made


def branches(workflow: nvt.Workflow) -> list[list[Any]]:
    """The nodes from each input on, up to where several come together."""
    nodes = list(postorder_iter_nodes(workflow.output_node))
    children = {parent: node for node in nodes for parent in node.parents_with_dependencies}
    found = []
    for node in (node for node in nodes if not node.parents_with_dependencies):
        branch = [node]
        while (after := children.get(branch[-1])) is not None and len(after.parents_with_dependencies) == 1:
            branch.append(after)
        found.append(branch)
    return found


def operator_of(node: Any) -> str:
    """What a node's operator is called, with the name of the function that it calls: `LambdaOp is_liked`."""
    kind = "LambdaOp" if isinstance(node.op, nvt.ops.LambdaOp) else type(node.op).__name__
    return kind if node.op.label in (kind, "+") else f"{kind} {node.op.label}"


def _places(nodes: Sequence[Any]) -> dict[Any, tuple[int, float]]:
    """Column and row of each node: an input has a row of its own, what several come together in the middle one."""
    places: dict[Any, tuple[int, float]] = {}
    inputs = 0
    for node in nodes:
        before = [places[parent] for parent in node.parents_with_dependencies]
        column = 1 + max((place[0] for place in before), default=-1)
        row = sum(place[1] for place in before) / len(before) if before else float(inputs)
        inputs += not before
        places[node] = column, row
    return places


def _middle(place: tuple[int, float]) -> tuple[float, float]:
    """Inches from the upper left corner."""
    return (place[0] + 0.5) * STEP[0], (place[1] + 0.5) * STEP[1]


def _box(axes: Axes, place: tuple[int, float], node: Any, is_last: bool) -> None:
    """The operator, and its columns where they are others than before."""
    is_input = not node.parents_with_dependencies
    names = node.output_schema.column_names
    changed = is_input or is_last or names != node.input_schema.column_names
    title = [] if is_input else operator_of(node).split(" ")
    columns = wrap(", ".join(names), LETTERS) if changed else []
    x, y = _middle(place)
    height = max(BOX[1], LINE * (len(title) + len(columns)) + 0.16)
    color = GREY if is_input else GREEN if is_last else BLUE
    axes.add_patch(
        FancyBboxPatch(
            (x - BOX[0] / 2, y - height / 2), BOX[0], height,
            boxstyle="round,pad=0,rounding_size=0.08", facecolor=f"{color}18", edgecolor=color, linewidth=1.2,
        )
    )  # fmt: skip
    written: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    axes.text(x, y - LINE / 2 * len(columns), "\n".join(title), fontweight="bold", **written)
    axes.text(x, y + LINE / 2 * len(title), "\n".join(columns), **written)


def _arrow(axes: Axes, start: tuple[int, float], end: tuple[int, float]) -> None:
    """Along the row of its start, and to the row of its end just before that, so that it crosses no box."""
    (left, top), (right, bottom) = _middle(start), _middle(end)
    right -= BOX[0] / 2
    line = Path([(left + BOX[0] / 2, top), (right - TURN, top), (right, bottom)])
    axes.add_patch(FancyArrowPatch(path=line, arrowstyle="-|>", mutation_scale=9, color=GREY, linewidth=1))
