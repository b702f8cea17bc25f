"""The pictures of the run's report, or how to make them."""

from pathlib import Path

import streamlit as st

from dashboard.parts.picture import is_wide, picture
from dashboard.settings import settings
from dashboard.shared import read


def pictures() -> list[dict[str, str]]:
    """`name`, `section`, `title` and `text` of each picture, in the report's order; none without a report."""
    found = read(Path(settings().report, "pictures.json"))
    return found if isinstance(found, list) else []


def sections() -> list[str]:
    """The report's sections that have pictures."""
    return list(dict.fromkeys(one["section"] for one in pictures()))


def gallery(section: str) -> None:
    """Draws a section's pictures, two in a row where there is room."""
    chosen = [(one, Path(settings().report, "pictures", f"{one['name']}.svg")) for one in pictures()]
    chosen = [(one, svg) for one, svg in chosen if one["section"] == section and svg.is_file()]
    if not chosen:
        st.info("The report's pictures are not made yet. Make them in a terminal with:")
        st.code(settings().commands["report"], language=None, wrap_lines=True)
        return
    waiting: list[tuple[dict[str, str], Path]] = []
    for one, svg in chosen:
        if is_wide(svg):
            _row(waiting)
            _row([(one, svg)])
            waiting = []
        else:
            waiting.append((one, svg))
        if len(waiting) == 2:
            _row(waiting)
            waiting = []
    _row(waiting)


def _row(pictures: list[tuple[dict[str, str], Path]]) -> None:
    """Up to two pictures beside each other; a wide one takes the row."""
    if not pictures:
        return
    columns = [st.container()] if is_wide(pictures[0][1]) else st.columns(2, gap="medium")
    for column, (one, svg) in zip(columns, pictures):
        with column:
            picture(one["name"], one["title"], one["text"], svg)
