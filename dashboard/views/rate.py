"""*Rate*: find movies and give them stars; a person's key keeps them."""

import streamlit as st

from dashboard import people
from dashboard.catalogue import ORDERS
from dashboard.parts.deeds import later
from dashboard.parts.found import counted, plain_rows, search_field
from dashboard.parts.movies import RATE, UNRATE, movie_list
from dashboard.parts.words import caption, title
from dashboard.shared import catalogue

SHOWN = 12  # movies at a time
PAGE, WORDS = "rate_page", "rate_words"  # in the session


def show() -> None:
    """Draws the page."""
    st.html(title("Rate", "Give stars to movies that you know. More than 3 stars counts as liked in For you."))
    _person()
    taste = people.taste()
    stars = dict(taste.stars)
    only_mine, movie_ids = _found(stars)
    first = min(st.session_state.get(PAGE, 0) * SHOWN, max(0, len(movie_ids) - 1) // SHOWN * SHOWN)
    here = movie_ids[first : first + SHOWN]
    which = "rated by you" if only_mine else "found"
    st.html(
        caption(
            f"{counted(len(movie_ids), 'movie')} {which}"
            + (f", {first + 1} to {first + len(here)} shown" if here else "")
        )
    )
    movie_list(
        "rate",
        "Movies to rate",
        plain_rows(here, stars),
        [RATE],
        _act,
        empty="No movie matches the search and filters.",
    )
    _turn(first, len(movie_ids))


def _person() -> None:
    """The person's key, or how to get one."""
    key = people.current()
    with st.container(border=True):
        if key is None:
            st.html(caption("You are new here. Your first stars create a key that keeps them, or create one now."))
            left, right = st.columns([1, 2], vertical_alignment="bottom", gap="medium")
            left.button("New person", on_click=later(people.become_new), width="stretch")
            right.text_input("Or enter your key", key="rate_key", on_change=later(_go_on))
            return
        count = len(people.taste().stars)
        st.html(
            caption(
                f"You have rated {counted(count, 'movie')}. This key is the only way back to them; it is also in the "
                "address of this page."
            )
        )
        left, right = st.columns([2, 1], vertical_alignment="center", gap="medium")
        left.code(key, language=None, wrap_lines=True)
        right.button("Start as a new person", on_click=later(people.leave), width="stretch")


def _go_on() -> None:
    given = st.session_state.rate_key.strip()
    if given:
        st.query_params[people.KEY] = given  # the next drawing enters with it


def _found(stars: dict[int, float]) -> tuple[bool, list[int]]:
    """The filters, and what they leave."""
    movies = catalogue()
    words = search_field("Title", "rate_search", "Part of a title, then Enter")
    if words != st.session_state.get(WORDS, ""):
        st.session_state[WORDS] = words
        _first()
    first, last = movies.years
    with st.expander("Filters: genres, years, order"):
        left, right = st.columns(2, gap="medium")
        genres = left.multiselect(
            "Genres (movies with all of them)", movies.genres, key="rate_genres", on_change=later(_first)
        )
        order = left.selectbox("Order", list(ORDERS), key="rate_order", on_change=later(_first))
        with right:
            years = st.slider(
                "Years", first, max(last, first + 1), (first, last), key="rate_years", on_change=later(_first)
            )
            only_mine = st.toggle("Only movies that I rated", key="rate_mine", on_change=later(_first))
    found = movies.search(words, genres, None if years == (first, last) else years, order)
    return only_mine, [one for one in found if one in stars] if only_mine else found


def _first() -> None:
    st.session_state[PAGE] = 0


def _turn(first: int, count: int) -> None:
    """The buttons to the movies before and after."""
    if count <= SHOWN:
        return
    page = first // SHOWN
    left, right = st.columns(2)
    left.button("Previous", disabled=page == 0, on_click=later(_go_to, page - 1), width="stretch")
    right.button(
        "Next",
        disabled=first + SHOWN >= count,
        on_click=later(_go_to, page + 1),
        width="stretch",
    )


def _go_to(page: int) -> None:
    st.session_state[PAGE] = page


def _act(action: str, movie_id: int, stars: float) -> None:
    if action == UNRATE:
        people.forget(movie_id)
    else:
        people.rate(movie_id, stars)
