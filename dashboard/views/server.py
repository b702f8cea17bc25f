"""*Server*: whether Triton answers, with which version, and how fast it answered this page."""

import time
from collections import defaultdict
from html import escape
from statistics import median, quantiles

import streamlit as st

from dashboard.parts.words import NOTHING, caption, figures, good, heading, row, table, title
from dashboard.settings import settings
from dashboard.shared import catalogue, names, store, triton
from dashboard.triton import KEPT, Asked

PAUSE = 5.0  # seconds between two looks
BARS = 40  # requests of a kind that are drawn
SHOWN = 10
NETWORK, FIRST = "Network", "First movie"  # columns of text


def show() -> None:
    """Draws the page."""
    st.html(title("Server", f"Triton at {settings().server}: its health, its version and how fast it answers."))
    _health()
    _latency(list(triton().requests))
    _shown()


@st.fragment(run_every=PAUSE)
def _health() -> None:
    found, seconds, reason = triton().health()
    if found is None:
        st.warning("The server does not answer. Start it in a terminal with:")
        st.code(settings().commands["serve"], language=None, wrap_lines=True)
        st.html(caption(f"Asked again every {PAUSE:g} s. ({reason})"))
        return
    st.html(good(f"Every model answers: {', '.join(found.models)}."))
    st.html(
        figures(
            [
                (
                    "version served" if len(found.versions) == 1 else "versions served",
                    ", ".join(found.versions),
                ),
                ("for a test request to every model", f"{1000 * seconds:.0f} ms"),
                ("UTC, last asked", time.strftime("%H:%M:%S", time.gmtime())),
            ]
        )
    )


def _latency(requests: list[Asked]) -> None:
    st.html(heading("Last requests of this page"))
    if not requests:
        st.html(caption("None yet. Open For you or Similar, and come back."))
        return
    kinds: dict[str, list[Asked]] = defaultdict(list)
    for one in requests:
        kinds[one.what].append(one)
    lines = [_line(what, asked) for what, asked in sorted(kinds.items())]
    st.html(
        caption(f"All sessions since the page was started, the last {KEPT} requests; bars: the latest {BARS} of each.")
    )
    st.html(
        table(
            "Last requests", ["Request", "Answers", "Failed", "Median", "95th percentile", "Slowest", "Latest"], lines
        )
    )


def _line(what: str, asked: list[Asked]) -> str:
    answered = [1000 * one.seconds for one in asked if one.answered]
    cells = [f"{len(answered):,}", f"{len(asked) - len(answered):,}", *_milliseconds(answered), _bars(answered[-BARS:])]
    service, _, model = what.partition(" ")
    return row(f"{service}, {names().model(model)}" if model else service, cells)


def _milliseconds(values: list[float]) -> list[str]:
    if not values:
        return [NOTHING] * 3
    high = quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return [f"{value:.1f} ms" for value in (median(values), high, max(values))]


def _bars(values: list[float]) -> str:
    """The values as bars, the latest on the right, the highest of full height."""
    highest = max(values, default=1.0)
    bars = "".join(f'<span style="height:{max(5.0, 100 * value / highest):.0f}%"></span>' for value in values)
    return f'<span class="m-bars" aria-hidden="true">{bars}</span>'


def _shown() -> None:
    """The recommendations that were shown last, to whomever."""
    last = store().shown(SHOWN)
    if not last:
        return
    st.html(heading("Recommendations shown last"))
    lines = [
        row(
            time.strftime("%d %b %H:%M:%S", time.gmtime(one.time)),
            [
                _text(names().model(one.model)),
                escape(one.version),
                f"{one.milliseconds:.1f} ms",
                _text(catalogue().title(one.movie_ids[0]) if one.movie_ids else NOTHING),
            ],
        )
        for one in last
    ]
    st.html(
        table(
            "Recommendations shown last",
            ["Time (UTC)", NETWORK, "Version", "Answered in", FIRST],
            lines,
            [NETWORK, FIRST],
        )
    )


def _text(words: str) -> str:
    return f'<td class="m-text">{escape(words)}</td>'
