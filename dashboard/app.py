"""The page that asks Triton. Started by `python -m marquee dashboard`."""

from pathlib import Path

import streamlit as st

from dashboard import people
from dashboard.parts.deeds import do_noted
from dashboard.parts.words import brand, plain
from dashboard.shared import UnreadableError
from dashboard.store import StoreError
from dashboard.views import compare, data, for_you, rate, server, similar

HERE = Path(__file__).parent
LIGHT = "light"
PAGES = (
    (for_you.show, "For you", "for-you"),
    (rate.show, "Rate", "rate"),
    (similar.show, "Similar", "similar"),
    (compare.show, "Compare", "compare"),
    (data.show, "Data", "data"),
    (server.show, "Server", "server"),
)

st.set_page_config(page_title="Marquee", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(HERE / "page.css")
st.html(
    f"<style>:root {{ --m-page: {st.get_option(f'theme.{st.context.theme.type or LIGHT}.backgroundColor')} }}</style>"
)
pages = [st.Page(draw, title=title, url_path=path, default=path == "for-you") for draw, title, path in PAGES]
chosen = st.navigation(pages, position="hidden")  # its own menu is behind a button on a phone, and stays open there
do_noted()
problem = ""
try:
    people.enter()
except StoreError as error:  # the pages that need no person are drawn all the same
    problem = str(error)
with st.container(horizontal=True, vertical_alignment="center", gap="small", key="menu"):
    st.html(brand((HERE / "icon.svg").read_bytes()))
    for page in pages:
        st.page_link(page, width="content", query_params=people.address())
if people.is_refused():
    st.error("No person has this key. Check it, or start as a new person on the page Rate.")
try:
    chosen.run()
except (StoreError, UnreadableError) as error:
    problem = str(error)
if problem:
    st.error(plain(problem))
