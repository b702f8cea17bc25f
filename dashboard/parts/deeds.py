"""What a click or a new value asks for, done at the start of the next drawing.

Where the browser sends something new, Streamlit ends the drawing that is going on, at its next use of the session's
state, and begins another one in another thread, even before the first has ended (Streamlit 1.60, `runner.fastReruns`).
A widget's callback is cut short in the same way, and what it had left to do is lost, as to Streamlit its value is not
new any more. So a callback here only notes what is to be done, and a drawing that is ended leaves the rest to the next.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock

import streamlit as st

from dashboard.parts.words import plain
from dashboard.store import StoreError

DEEDS = "deeds"  # in the session

Deed = Callable[[], object]


class Deeds:
    """What a session has to do, in order."""

    def __init__(self) -> None:
        self._noted: deque[Deed] = deque()
        self._lock = Lock()  # two drawings of a session can overlap

    def note(self, deed: Deed) -> None:
        """To be done later."""
        self._noted.append(deed)

    def do(self) -> None:
        """Does what was noted.

        One that was ended is done again by the next, so doing it twice must be as good as once; one that fails is not.
        """
        with self._lock:
            while self._noted:
                try:
                    self._noted[0]()
                except Exception:
                    self._noted.popleft()
                    raise
                self._noted.popleft()


def later(do: Callable, *args: object) -> Callable[[], None]:
    """A callback for a widget, which notes that `do(*args)` is to be done."""
    return partial(_deeds().note, partial(said, partial(do, *args)))


def do_noted() -> None:
    """Does what the session has to do. Called once for each drawing, before all else."""
    _deeds().do()


def _deeds() -> Deeds:
    if DEEDS not in st.session_state:
        st.session_state[DEEDS] = Deeds()
    return st.session_state[DEEDS]


def said(deed: Deed) -> None:
    """Does it, and says what the store refuses."""
    try:
        deed()
    except StoreError as error:
        st.error(plain(str(error)))
