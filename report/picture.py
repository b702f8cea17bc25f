"""What a picture is: a function from a run's files to a figure, with a title and a sentence that says what it shows.

To add one, write it in a file of `report/pictures/`, with `add(Picture(...))` at its end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from matplotlib.figure import Figure

from core.errors import UserError
from core.registry import LAST, Registry
from report.files import RunFiles
from report.style import styled

PICTURES: Registry["Picture"] = Registry("picture", "report.pictures")
DATA, LEARNING, COMPARISON = "data", "learning", "comparison"  # the sections of the report, in this order


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, such as `rating-histogram`.
        section: `data`, `learning` or `comparison`.
        title: its heading.
        draw: the run's files to a figure, made with `report.style.figure`, not with pyplot.
        text: what the picture shows, in one or two sentences with their numbers, protocol and seed: the caption, and
            what a screen reader reads.
        protocol: which it is about; empty for pictures of the data.
        lacking: why this run has no such picture, as a sentence; empty where it has one. What it raises as a
            `UserError`, such as for a missing file, is a reason, too.
    """

    name: str
    section: str
    title: str
    draw: Callable[[RunFiles], Figure]
    text: Callable[[RunFiles], str]
    protocol: str = ""
    lacking: Callable[[RunFiles], str] = lambda _: ""


def add(picture: Picture, position: int = LAST) -> Picture:
    """Registers a picture, which is drawn in the style of all.

    Args:
        position: its place in its section, the lowest first.
    """
    complete = replace(picture, draw=styled()(picture.draw), lacking=partial(_reason, picture.lacking))
    return PICTURES.add(picture.name, complete, position)


def _reason(lacking: Callable[[RunFiles], str], files: RunFiles) -> str:
    try:
        return lacking(files)
    except UserError as error:
        return str(error)
