"""*Compare*: what `evaluate` found, and the report's pictures of it."""

from pathlib import Path

import streamlit as st

from dashboard.names import capitalized
from dashboard.parts.gallery import gallery, sections
from dashboard.parts.notice import problems
from dashboard.parts.words import heading, title
from dashboard.results import protocols, table_of
from dashboard.settings import settings
from dashboard.shared import names, networks, read

DATA, COMPARISON = "data", "comparison"  # sections of the report; the page *Data* shows the first


def show() -> None:
    """Draws the page."""
    st.html(title("Compare", "Networks and baselines on the same test sets, each figure with its interval."))
    results = read(Path(settings().evaluation), "evaluate")
    if not isinstance(results, list) or not results:
        st.info("This run is not evaluated yet. Do that in a terminal with:")
        st.code(settings().commands["evaluate"], language=None, wrap_lines=True)
    else:
        for tab, protocol in zip(st.tabs([capitalized(one) for one in protocols(results)]), protocols(results)):
            question = settings().questions.get(protocol, "")
            tab.html(
                (heading(question) if question else "")
                + table_of(results, protocol, names(protocol), networks(), settings().lower_is_better)
            )
    _pictures()


@st.fragment
def _pictures() -> None:
    with problems():
        found = [one for one in sections() if one != DATA]
        chosen = found[-1] if found else COMPARISON
        if len(found) > 1:
            chosen = st.segmented_control(
                "Pictures", found, default=chosen, key="compare_section", format_func=capitalized, required=True
            )
        gallery(chosen)
