"""*For you*: the networks' recommendations side by side, with the reasons, for a person or a user of the dataset."""

import random

import streamlit as st

from dashboard import people
from dashboard.catalogue import liked
from dashboard.database import LARGEST_ID
from dashboard.parts.deeds import later
from dashboard.parts.found import counted, plain_rows, search_field
from dashboard.parts.movies import ADD, DISLIKE, LIKE, REMOVE, Movie, movie_list
from dashboard.parts.notice import answers
from dashboard.parts.words import caption, heading, list_heading, listed, plain, title
from dashboard.question import Question
from dashboard.reasons import Reason
from dashboard.recommending import Answer, answers_to, keep, reasons_for
from dashboard.settings import settings
from dashboard.shared import catalogue, names
from dashboard.store import StoreError

MINE, USERS = "My movies", "A MovieLens user"
FOUND = 5  # movies that a search shows
LATEST = 8  # liked movies that are shown
WHO, USER, THUMBS = "for_you_who", "for_you_user", "for_you_thumbs"  # in the session


def show() -> None:
    """Draws the page."""
    st.html(title("For you", "Ten movies from each network, side by side, and why each is there. A thumb changes all."))
    st.session_state.setdefault(WHO, MINE)
    who = st.segmented_control("Recommend from", [MINE, USERS], key=WHO, required=True, persist_state="session")
    question = _user() if who == USERS else _mine()
    with answers():
        _lists(question)


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
        st.html(heading(f"{counted(len(taste.liked), 'movie') if latest else 'Movies'} that you like"))
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
        first = int(catalogue().users.min(initial=LARGEST_ID))
        st.session_state.setdefault(USER, first)
        user_id = int(
            st.number_input(
                "User id",
                min_value=first,
                max_value=LARGEST_ID,
                step=1,
                key=USER,
                persist_state="session",
                on_change=later(_take_back),
            )
        )
    with right:
        st.button("Another user", on_click=later(_another_user))
    stars = catalogue().stars_of(user_id)
    thumbs: dict[int, bool] = st.session_state.get(THUMBS, {})
    theirs = liked(stars)
    if not stars:
        st.html(caption(f"{settings().dataset} has no ratings by user {user_id}."))
    else:
        latest = ", ".join(catalogue().title(one) for one in theirs[::-1][:3])
        st.html(
            caption(
                f"User {user_id} gave {counted(len(stars), 'rating')}, {len(theirs)} of them above 3 stars"
                + (f"; the latest of these are for {latest}." if latest else ".")
            )
        )
    if not thumbs:
        return Question(user_id, tuple(theirs), frozenset(stars))
    st.html(
        caption(
            "A trained user's list does not follow new ratings. With your thumbs the networks are asked for someone "
            f"new who likes this user's movies and yours ({counted(len(thumbs), 'thumb')})."
        )
    )
    st.button("Take the thumbs back", on_click=later(_take_back))
    likes = [one for one in theirs if one not in thumbs] + [one for one, up in thumbs.items() if up]
    return Question(None, tuple(likes), frozenset({*stars, *thumbs}))


def _another_user() -> None:
    st.session_state[USER] = int(random.choice(catalogue().users))
    _take_back()


def _take_back() -> None:
    st.session_state.pop(THUMBS, None)


def _thumb(action: str, movie_id: int, _: float) -> None:
    """A thumb for the person; for a user of the dataset it is the session's alone."""
    up = action != DISLIKE
    if st.session_state[WHO] == USERS:
        st.session_state[THUMBS] = {**st.session_state.get(THUMBS, {}), movie_id: up}
    else:
        people.thumb(movie_id, up)


# -- the lists ---------------------------------------------------------------------------------------------------------


def _lists(question: Question) -> None:
    found = answers_to(question)
    why = reasons_for(question, found)
    compares = len(found) > 1 and found[0].is_personal
    known = "" if found[0].is_personal else "Nothing is known yet: the most rated movies, the same for each network"
    common = set.intersection(*(set(answer.movie_ids) for answer in found)) if compares else set()
    which = "both" if len(found) == 2 else "all"
    for column, answer in zip(st.columns(len(found), gap="medium"), found):
        with column:
            name = _name(answer)
            sentence = f"{len(common)} of {len(answer.movie_ids)} are in {which} lists" if compares else known
            st.html(list_heading(name, sentence, names().colors.get(answer.model, "")))
            movie_list(
                f"list-{answer.model}",
                f"{name}: recommended movies",
                _rows(answer, why, dict.fromkeys(common, f"in {which}"), len(question.liked)),
                [LIKE, DISLIKE],
                _thumb,
                is_ranked=True,
                empty="No movie is left to recommend.",
                color=names().colors.get(answer.model, ""),
            )
    st.html(caption(_score_text(found)))
    try:
        keep(found)
    except StoreError as error:
        st.warning(plain(f"These lists are not kept. {error}"))


def _score_text(found: list[Answer]) -> str:
    if not found[0].is_personal:
        return "Each figure is the share of users who rated the movie."
    took = listed([f"{answer.milliseconds:.0f} ms ({_name(answer)})" for answer in found])
    return (
        "The figure is the network's score, from 0 to 1, by which it orders the movies; two networks' scores are not "
        "on one scale. Near: as on the page Similar, "
        f"by {_name(found[0])}'s vectors, genres and years, in every list. Marked genres are frequent among the liked "
        f"movies. Answered by Triton in {took}; version {found[0].version} of the models."
    )


def _name(answer: Answer) -> str:
    return names().model(answer.model) if answer.model else "Recommended"


def _rows(answer: Answer, why: dict[int, Reason], marks: dict[int, str], liked_count: int) -> list[Movie]:
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
                mark=marks.get(movie_id, ""),
            )
        )
    return rows


def _sentence(reason: Reason, liked_count: int) -> str:
    """A reason in words; empty where there is none."""
    near = " and ".join(catalogue().title(one) for one in reason.nearest)
    sentences = [f"Near {near}."] if near else []
    if reason.genres:
        sentences.append(f"{reason.genres[0]}, like {reason.share} of {counted(liked_count, 'liked movie')}.")
    return " ".join(sentences)
