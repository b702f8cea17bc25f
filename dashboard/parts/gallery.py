"""The pictures of the run's report, or how to make them."""

from pathlib import Path

import streamlit as st

from dashboard.parts.picture import picture
from dashboard.settings import settings
from dashboard.shared import read


def pictures() -> list[dict[str, str]]:
    """`name`, `section`, `title` and `text` of each picture, in the report's order; none without a report."""
    found = read(Path(settings().report, "pictures.json"), "report")
    return found if isinstance(found, list) else []


def sections() -> list[str]:
    """The report's sections that have pictures."""
    return list(dict.fromkeys(one["section"] for one in pictures()))


def gallery(section: str) -> None:
    """Draws a section's pictures, in two columns where there is room."""
    chosen = [(one, Path(settings().report, "pictures", f"{one['name']}.svg")) for one in pictures()]
    chosen = [(one, svg) for one, svg in chosen if one["section"] == section and svg.is_file()]
    if not chosen:
        st.info("The report's pictures are not made yet. Make them in a terminal with:")
        st.code(settings().commands["report"], language=None, wrap_lines=True)
        return
    with st.container(key="gallery"):
        for one, svg in chosen:
            picture(one["name"], one["title"], one["text"], svg)
