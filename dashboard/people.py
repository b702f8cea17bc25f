"""Who uses this session: a person of the store, whose key is in the page's address, or someone new."""

from dataclasses import dataclass

import streamlit as st

from dashboard.catalogue import LIKED_ABOVE
from dashboard.shared import store

KEY = "person"  # in the address and in the session
REFUSED = "refused_key"  # in the session, until it is said


@dataclass(frozen=True)
class Taste:
    """What someone has said about movies.

    Attributes:
        liked: movies with a thumb up or more than `LIKED_ABOVE` stars, in the order that this was said in.
        seen: every movie with stars or a thumb.
        stars: by movie.
    """

    liked: tuple[int, ...] = ()
    seen: frozenset[int] = frozenset()
    stars: tuple[tuple[int, float], ...] = ()


def enter() -> None:
    """Takes the key from the address, or puts the session's there. Called once for each drawing, before the page.

    A key that no person has is taken out of both.

    Raises:
        StoreError: the store cannot be read; the key stays where it is.
    """
    key = st.query_params.get(KEY) or current()
    if key is None:
        return
    if store().person(key) is None:
        leave()
        st.session_state[REFUSED] = True
        return
    st.session_state[KEY] = key
    if st.query_params.get(KEY) != key:
        st.query_params[KEY] = key


def is_refused() -> bool:
    """Whether a key was refused. It is so once."""
    return st.session_state.pop(REFUSED, False)


def address() -> dict[str, str]:
    """What the addresses of the other pages carry."""
    key = current()
    return {} if key is None else {KEY: key}


def current() -> str | None:
    """The person's key; None for someone new."""
    return st.session_state.get(KEY)


def become_new() -> str:
    """Makes a person of this session, in the place of the one before. Returns the key."""
    key = store().new_person().key
    st.session_state[KEY] = key
    st.query_params[KEY] = key
    return key


def leave() -> None:
    """This session is someone new again. The person stays in the store."""
    st.session_state.pop(KEY, None)
    st.query_params.pop(KEY, None)


def taste() -> Taste:
    """What the person has said; nothing for someone new."""
    key = current()
    if key is None:
        return Taste()
    ratings, thumbs = store().ratings(key), store().thumbs(key)
    said = [(one.timestamp, one.movie_id, one.stars > LIKED_ABOVE) for one in ratings]
    said += [(one.timestamp, one.movie_id, one.up) for one in thumbs]
    opinions: dict[int, bool] = {}
    for _, movie_id, likes in sorted(said, key=lambda one: one[0]):  # the latest word counts
        opinions.pop(movie_id, None)
        opinions[movie_id] = likes
    liked = tuple(movie_id for movie_id, likes in opinions.items() if likes)
    return Taste(liked, frozenset(opinions), tuple((one.movie_id, one.stars) for one in ratings))


def thumb(movie_id: int, up: bool) -> None:
    """Keeps a thumb; someone new becomes a person."""
    store().thumb(current() or become_new(), movie_id, up)


def rate(movie_id: int, stars: float) -> None:
    """Keeps a rating; someone new becomes a person."""
    store().rate(current() or become_new(), movie_id, stars)


def forget(movie_id: int) -> None:
    """Removes what the person has said about a movie."""
    key = current()
    if key is not None:
        store().unrate(key, movie_id)
        store().unthumb(key, movie_id)
