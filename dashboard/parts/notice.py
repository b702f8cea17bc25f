"""What a page says while the server does not answer, and how it goes on by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.errors import UserError
from dashboard.parts.words import caption, plain
from dashboard.settings import settings
from dashboard.shared import UnreadableError, triton
from dashboard.store import StoreError
from dashboard.triton import AWAY

PAUSE = 2.0  # seconds between two looks


@contextmanager
def answers() -> Iterator[None]:
    """What asks the server is done inside; where there is no answer, that is said in its place, and the page goes on.

    The page is drawn again once the server is back.
    """
    try:
        yield
    except AWAY as error:
        _away(str(error).partition("; start one with")[0])
    except UnreadableError:
        raise
    except UserError as error:
        st.error(f"The server refuses: {plain(str(error))}")


@contextmanager
def problems() -> Iterator[None]:
    """Says what cannot be read or written, in the place of what is done inside.

    A fragment needs one of its own, as Streamlit lets no error out of it.
    """
    try:
        yield
    except (StoreError, UnreadableError) as error:
        st.error(plain(str(error)))


def _away(reason: str) -> None:
    st.warning("The recommendation server does not answer. Start it in a terminal with:")
    st.code(settings().commands["serve"], language=None, wrap_lines=True)
    st.html(caption(f"This page goes on by itself when the server is back. ({reason})"))
    _watch()


@st.fragment(run_every=PAUSE)
def _watch() -> None:
    if triton().is_back():
        st.rerun()
