"""*For you*: the networks' recommendations side by side, with the reasons, for a person or a user of the dataset."""

import random

import streamlit as st

from dashboard import people
from dashboard.catalogue import liked
from dashboard.parts.found import counted, plain_rows, search_field
from dashboard.parts.movies import ADD, DISLIKE, LIKE, REMOVE, Movie, movie_list
from dashboard.parts.notice import answers
from dashboard.parts.words import caption, list_heading, title
from dashboard.reasons import Reason
from dashboard.recommending import Answer, Question, answers_to, reasons_for
from dashboard.settings import settings
from dashboard.shared import catalogue, names

MINE, USERS = "My movies", "A MovieLens user"
FOUND = 5  # movies that a search shows
LATEST = 8  # liked movies that are shown
USER, THUMBS = "for_you_user", "for_you_thumbs"  # in the session


def show() -> None:
    """Draws the page."""
    st.html(
        title("For you", "Ten movies from each network, side by side, and why each is there. A thumb changes both.")
    )
    who = st.segmented_control("Recommend from", [MINE, USERS], default=_kept("for_you_who", MINE), key="who")
    st.session_state.for_you_who = who or MINE
    question = _user() if st.session_state.for_you_who == USERS else _mine()
    with answers():
        _lists(question)


def _kept(name: str, default: object) -> object:
    """What the session has kept, also while another page was shown."""
    return st.session_state.get(name, default)


# -- for whom ----------------------------------------------------------------------------------------------------------


def _mine() -> Question:
    """The movies that the person likes, and a field that finds more."""
    taste = people.taste()
    left, right = st.columns(2, gap="medium")
    with left:
        words = search_field("Find movies that you like", "for_you_search", "Part of a title, then Enter")
        if words.strip():
            found = [one for one in catalogue().search(words) if one not in taste.seen][:FOUND]
            movie_list(
                "found", "Movies found", plain_rows(found), [ADD], _thumb, empty="No other movie has these words."
            )
    with right:
        latest = taste.liked[::-1][:LATEST]
        st.html(f'<h2 class="m-heading">{counted(len(taste.liked), "movie")} that you like</h2>')
        movie_list(
            "liked",
            "Movies that you like",
            plain_rows(latest),
            [REMOVE],
            lambda _, movie_id, __: people.forget(movie_id),
            empty="None yet. Find some by title, or begin with a thumb below.",
        )
        if len(taste.liked) > len(latest):
            st.html(caption(f"The latest {len(latest)} are shown; all count."))
    return Question(liked=taste.liked, seen=taste.seen)


def _user() -> Question:
    """A user of the dataset; with thumbs, someone new who likes the same movies and those."""
    left, right = st.columns([1, 2], gap="small", vertical_alignment="bottom")
    with left:
        user_id = st.number_input("User id", min_value=0, max_value=2**31 - 1, value=_kept(USER, 1), step=1)
    with right:
        st.button("Another user", on_click=_another_user)
    if user_id != _kept(USER, 1):
        st.session_state.pop(THUMBS, None)
    st.session_state[USER] = int(user_id)
    stars = catalogue().stars_of(int(user_id))
    thumbs: dict[int, bool] = st.session_state.get(THUMBS, {})
    theirs = liked(stars)
    if not stars:
        st.html(caption(f"{settings().dataset} has no ratings of user {user_id}; the most rated movies are shown."))
    else:
        latest = ", ".join(catalogue().title(one) for one in theirs[::-1][:3])
        st.html(
            caption(
                f"User {user_id} gave {counted(len(stars), 'rating')}, {len(theirs)} of them above 3 stars"
                + (f"; the latest of these: {latest}." if latest else ".")
            )
        )
    if not thumbs:
        return Question(int(user_id), tuple(theirs), frozenset(stars))
    st.html(
        caption(
            "A trained user's list does not follow new ratings. With your thumbs the networks are asked for someone "
            f"new who likes this user's movies and yours ({counted(len(thumbs), 'thumb')})."
        )
    )
    st.button("Take the thumbs back", on_click=lambda: st.session_state.pop(THUMBS, None))
    likes = [one for one in theirs if one not in thumbs] + [one for one, up in thumbs.items() if up]
    return Question(None, tuple(likes), frozenset({*stars, *thumbs}))


def _another_user() -> None:
    st.session_state[USER] = int(random.choice(catalogue().users))
    st.session_state.pop(THUMBS, None)


def _thumb(action: str, movie_id: int, _: float) -> None:
    """A thumb for the person; for a user of the dataset it is the session's alone."""
    up = action != DISLIKE
    if st.session_state.for_you_who == USERS:
        st.session_state[THUMBS] = {**st.session_state.get(THUMBS, {}), movie_id: up}
    else:
        people.thumb(movie_id, up)


# -- the lists ---------------------------------------------------------------------------------------------------------


def _lists(question: Question) -> None:
    found = answers_to(question)
    why = reasons_for(question, found)
    compares = len(found) > 1 and found[0].is_personal
    common = set.intersection(*(set(answer.movie_ids) for answer in found)) if compares else set()
    for column, answer in zip(st.columns(len(found), gap="medium"), found):
        with column:
            name = names().model(answer.model) if answer.model else "Recommended"
            sentence = f"{len(common)} of {len(answer.movie_ids)} are in both lists" if compares else ""
            st.html(list_heading(name, sentence, names().colors.get(answer.model, "")))
            movie_list(
                f"list-{answer.model}",
                f"{name}: recommended movies",
                _rows(answer, why, common, len(question.liked)),
                [LIKE, DISLIKE],
                _thumb,
                is_ranked=True,
                empty="No movie is left to recommend.",
                color=names().colors.get(answer.model, ""),
            )
    st.html(caption(_score_text(found)))


def _score_text(found: list[Answer]) -> str:
    if not found[0].is_personal:
        return (
            "Nothing is known yet, so these are the most rated movies; each figure is the share of users who rated one."
        )
    took = ", ".join(f"{answer.milliseconds:.0f} ms" for answer in found)
    return (
        "The figure is the network's probability that the movie is watched next. Marked genres are those of liked "
        f"movies. Answered by Triton in {took}; version {found[0].version} of the models."
    )


def _rows(answer: Answer, why: dict[int, Reason], common: set[int], liked_count: int) -> list[Movie]:
    movies = catalogue()
    rows = []
    for movie_id, score in zip(answer.movie_ids, answer.scores):
        reason = why.get(movie_id)
        rows.append(
            Movie(
                id=movie_id,
                title=movies.title(movie_id),
                genres=movies.genres_of(movie_id),
                shared=reason.genres if reason else (),
                score=score,
                score_text=f"{score:.3f}" if answer.is_personal else f"{100 * score:.0f} %",
                why=_sentence(reason, liked_count) if reason else "",
                mark="in both" if movie_id in common else "",
            )
        )
    return rows


def _sentence(reason: Reason, liked_count: int) -> str:
    """A reason in words; empty where there is none."""
    near = " and ".join(catalogue().title(one) for one in reason.nearest)
    genre = f"{reason.genres[0]}, as {reason.share} of {liked_count} liked movies" if reason.genres else ""
    if near and genre:
        return f"Near {near}; {genre}"
    return f"Near {near}" if near else genre
