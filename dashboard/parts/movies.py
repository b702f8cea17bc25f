"""A list of movies with buttons or stars, drawn in the browser. Markup in a title is shown as text."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard.parts.deeds import later, said

HERE = Path(__file__).parent
LIKE, DISLIKE, ADD, REMOVE, RATE, UNRATE, OPEN = "like", "dislike", "add", "remove", "rate", "unrate", "open"


@dataclass(frozen=True, kw_only=True)
class Movie:
    """One row.

    Attributes:
        title: with its year.
        genres: in the order that they are shown in.
        shared: those of the genres that are marked.
        score: from 0 to 1, the length of a bar; None for no bar.
        score_text: the score in figures, or a short word.
        why: a sentence below the title.
        mark: a word beside the title.
        stars: 0.5 to 5 that were given; 0 for none.
    """

    id: int
    title: str
    genres: Sequence[str] = ()
    shared: Sequence[str] = field(default_factory=tuple)
    score: float | None = None
    score_text: str = ""
    why: str = ""
    mark: str = ""
    stars: float = 0.0


@st.cache_resource(show_spinner=False)
def _component(modified: float) -> Callable:
    """The component; made again where its files change.

    Args:
        modified: when they last did.
    """
    css, js = ((HERE / f"movies.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return st.components.v2.component("marquee_movies", css=css, js=js)


def movie_list(
    key: str,
    label: str,
    movies: Sequence[Movie],
    actions: Sequence[str],
    act: Callable[[str, int, float], None],
    *,
    is_ranked: bool = False,
    empty: str = "",
    color: str = "",
) -> None:
    """Draws a list.

    Args:
        key: names the list on its page.
        label: what a screen reader calls the list.
        actions: what each row offers: some of `LIKE`, `DISLIKE`, `ADD`, `REMOVE`, `OPEN`, or `RATE` (stars).
        act: called with the action, the movie's id and the stars, at the start of the next drawing.
        is_ranked: whether each row has its place in front.
        empty: the sentence where there is no movie.
        color: of the bars; empty for the theme's.
    """

    data = {
        "label": label,
        "movies": [asdict(movie) for movie in movies],
        "actions": list(actions),
        "ranked": is_ranked,
        "empty": empty,
        "color": color,
        "done": st.session_state.get(f"{key}-done", {}),
    }
    modified = max((HERE / f"movies.{kind}").stat().st_mtime for kind in ("css", "js"))
    _component(modified)(key=key, data=data, on_events_change=later(_do_new_events, key, act))


def _do_new_events(key: str, act: Callable[[str, int, float], None]) -> None:
    """Does the events of a list that were not done yet, and says what could not be.

    The session keeps the name of the browser's list, and its last event that was done. The browser sends the list, and
    the events that it has not heard of as done.
    """
    sent = st.session_state[key].events if key in st.session_state else None
    if not sent:
        return
    done = st.session_state.get(f"{key}-done", {})
    last = done["number"] if done.get("list") == sent["list"] else 0
    for event in sent["waiting"]:
        if event["number"] <= last:
            continue
        said(partial(act, str(event["action"]), int(event["id"]), float(event.get("stars") or 0)))
        st.session_state[f"{key}-done"] = {"list": sent["list"], "number": event["number"]}
