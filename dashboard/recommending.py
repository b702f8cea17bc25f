"""What *For you* asks, for whom: the networks' lists, and why each movie is in one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.people import current
from dashboard.question import K, Question, request
from dashboard.reasons import Reason, reasons
from dashboard.shared import catalogue, networks, store, triton
from dashboard.store import Shown


@dataclass(frozen=True)
class Answer:
    """A network's list.

    Attributes:
        model: the network; empty for the server's default.
        movie_ids, scores: the best first.
        is_personal: if not, these are the most rated movies, and the scores the shares of users that rated them.
        version: of the repository that answered.
        time: when it was asked, Unix time in seconds.
        milliseconds: from the question to the answer.
    """

    model: str
    movie_ids: tuple[int, ...]
    scores: tuple[float, ...]
    is_personal: bool
    version: int
    time: float
    milliseconds: float


def answers_to(question: Question) -> list[Answer]:
    """Every network's `K` best.

    Raises:
        UserError: the server does not answer, or refuses.
    """
    return [_answer(question, model) for model in networks()]


def _answer(question: Question, model: str) -> Answer:
    history, k, hidden = request(question)
    began, asked = time.perf_counter(), time.time()
    found = triton().recommend(question.user_id, k, history, model)
    milliseconds = 1000 * (time.perf_counter() - began)
    best = [pair for pair in zip(found.movie_id.tolist(), found.score.tolist()) if pair[0] not in hidden][:K]
    movie_ids, scores = tuple(one for one, _ in best), tuple(score for _, score in best)
    return Answer(model, movie_ids, scores, found.known, found.version, asked, milliseconds)


def keep(answers: Sequence[Answer]) -> None:
    """Keeps answers in the store as shown.

    Raises:
        StoreError: it cannot be written.
    """
    for answer in answers:
        store().record(
            Shown(
                key=current(),
                model=answer.model,
                version=str(answer.version),
                movie_ids=answer.movie_ids,
                scores=answer.scores,
                time=answer.time,
                milliseconds=answer.milliseconds,
            )
        )


def reasons_for(question: Question, answers: Sequence[Answer]) -> dict[int, Reason]:
    """Why each recommended movie is there, by movie id.

    Raises:
        UserError: as `answers_to`.
    """
    personal = [answer for answer in answers if answer.is_personal]
    movie_ids = list(dict.fromkeys(movie_id for answer in personal for movie_id in answer.movie_ids))
    return reasons(
        movie_ids,
        question.liked,
        lambda one: triton().neighbours(one, personal[0].version),
        catalogue().genres_of,
    )
