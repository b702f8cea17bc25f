"""*Similar*: the movies most like one."""

import streamlit as st

from dashboard.parts.found import plain_rows, search_field
from dashboard.parts.movies import OPEN, Movie, movie_list
from dashboard.parts.notice import answers
from dashboard.parts.words import caption, list_heading, title
from dashboard.shared import catalogue, names, networks, triton

FOUND = 8  # movies that a search shows
K = 12
CHOSEN, WORDS = "similar_movie", "similar_words"  # in the session


def show() -> None:
    """Draws the page."""
    st.html(title("Similar", "The movies nearest to one movie, by what the network has learned, genres and year."))
    left, right = st.columns([2, 3], gap="large")
    with left:
        words = search_field("Find a movie", "similar_search", "Part of a title, then Enter")
        found = catalogue().search(words)[:FOUND]
        movie_list(
            "similar-found", "Movies found", plain_rows(found), [OPEN], _choose, empty="No movie has these words."
        )
    if words != st.session_state.get(WORDS, ""):
        st.session_state[WORDS] = words
        st.session_state.pop(CHOSEN, None)
    chosen = st.session_state.get(CHOSEN, found[0] if found else None)
    if chosen is not None:
        with right, answers():
            _neighbours(chosen)


def _neighbours(chosen: int) -> None:
    movies = catalogue()
    answer = triton().similar(chosen, K)
    genres = movies.genres_of(chosen)
    st.html(list_heading(f"Like {movies.title(chosen)}", " · ".join(genres), ""))
    rows = [
        Movie(
            id=movie_id,
            title=movies.title(movie_id),
            genres=movies.genres_of(movie_id),
            shared=genres,
            score=cosine,
            score_text=f"{cosine:.3f}",
        )
        for movie_id, cosine in zip(answer.movie_id.tolist(), answer.score.tolist())
    ]
    movie_list("similar", "Similar movies", rows, [OPEN], _choose, is_ranked=True, empty="No movie is like it.")
    st.html(
        caption(
            "The figure is the cosine of the two movies' vectors, at most 1. Half of a vector is what "
            f"{_network()} has learned of the movie, half its genres and year. Marked genres are shared. "
            f"Version {answer.version} of the models."
        )
    )


def _network() -> str:
    default = networks()[0]
    return names().model(default) if default else "the network"


def _choose(_: str, movie_id: int, __: float) -> None:
    st.session_state[CHOSEN] = movie_id
