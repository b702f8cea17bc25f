"""A click is done also where the browser sends something else at that moment."""

import threading

import pytest

pytest.importorskip("streamlit", reason="needs the page's environment; see `make test`")
from streamlit.testing.v1 import AppTest

from dashboard.parts.deeds import Deeds
from dashboard.store import StoreError
from tests.names import HANG_SECONDS


def drawing(raised: Exception | None = None) -> None:
    """A page with one button, during whose work the browser asks for another drawing, once."""
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx

    from dashboard.parts.deeds import do_noted, later

    sent = st.session_state.setdefault("sent", [])

    def add() -> None:
        if not sent:
            sent.append(True)
            get_script_run_ctx().script_requests.request_rerun(RerunData(widget_states=None))
        st.session_state["count"] = st.session_state.get("count", 0) + 1
        if raised:
            raise raised

    do_noted()
    st.button("Add", on_click=later(add))
    st.text(st.session_state.get("count", 0))


def test_a_click_is_done_once_although_its_drawing_is_ended():
    page = AppTest.from_function(drawing).run()
    assert page.text[0].value == "0"
    page.button[0].click().run()
    assert (page.session_state["sent"], page.text[0].value) == ([True], "1")
    assert page.run().text[0].value == "1"
    assert page.button[0].click().run().text[0].value == "2"


def test_what_the_store_refuses_is_said_once():
    page = AppTest.from_function(drawing, args=(StoreError("the disk is full"),)).run()
    page.button[0].click().run()
    assert [one.value for one in page.error] == ["the disk is full"]
    assert not page.run().error
    assert page.text[0].value == "1"


def test_what_fails_is_not_tried_for_ever():
    page = AppTest.from_function(drawing, args=(ValueError("a fault"),)).run()
    page.button[0].click().run()
    assert page.exception
    assert not page.run().exception


def test_two_drawings_that_overlap_do_everything_once_and_in_order():
    deeds, done = Deeds(), []
    begun, goes_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert goes_on.wait(HANG_SECONDS)
        done.append("first")

    deeds.note(slow)
    one, other = (threading.Thread(target=deeds.do) for _ in range(2))
    one.start()
    assert begun.wait(HANG_SECONDS)
    other.start()
    deeds.note(lambda: done.append("second"))
    goes_on.set()
    one.join(HANG_SECONDS)
    other.join(HANG_SECONDS)
    assert done == ["first", "second"]
