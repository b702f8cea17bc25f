"""What is asked of Triton and what its answers are, for `Client` and `AsyncClient` alike: nothing is sent here.

A question is a generator: it yields requests, is sent the answer to each, and returns the result.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype

from ensemble import arguments
from ensemble.triton_models.limits import DEFAULT_K, LARGEST_BATCH

PAIRS_AT_ONCE = LARGEST_BATCH // 2  # of one request

Answered = TypeVar("Answered")
Id = int | str  # text where a table's own ids are


@dataclass(frozen=True)
class Request:
    """A Triton model and the inputs that it is asked with."""

    model: str
    inputs: list[grpc.InferInput]


Question = Generator[Request, Any, Answered]  # it is sent a `grpc.InferResult`


@dataclass(frozen=True, eq=False)
class Scores:
    """What `score` answers.

    Attributes:
        score: float32 [n] probabilities.
        known: bool [n], whether both ids of a pair are in the vocabulary.
        version: the version of the repository that answered.
    """

    score: np.ndarray
    known: np.ndarray
    version: int


@dataclass(frozen=True, eq=False)
class Recommendations:
    """What `recommend` answers.

    Attributes:
        movie_id: int64 [k], or object [k] of str where the ids are text, the best first.
        score: float32 [k].
        known: whether the answer is personal. If not, these are the most rated movies, and each score is the share of
            users that rated the movie.
        version: the version of the repository that answered.
    """

    movie_id: np.ndarray
    score: np.ndarray
    known: bool
    version: int


@dataclass(frozen=True, eq=False)
class Similar:
    """What `similar` answers.

    Attributes:
        movie_id: int64 [k], or object [k] of str where the ids are text, the most alike first.
        score: float32 [k] cosines.
        version: the version of the repository that answered.
    """

    movie_id: np.ndarray
    score: np.ndarray
    version: int


def ids_tensor(name: str, values: np.ndarray) -> grpc.InferInput:
    """An input of ids, as `arguments` gives them: whole numbers or text."""
    return tensor(name, values, np.object_ if values.dtype.kind == "O" else np.int64)


def ids_of(answer: grpc.InferResult, name: str) -> np.ndarray:
    """An output of ids: int64 [n], or object [n] of str."""
    found = answer.as_numpy(name)
    if found is None or found.dtype.kind != "O":
        return np.asarray(found)
    text = np.empty(len(found), object)
    text[:] = [one.decode("utf-8", "replace") for one in found]
    return text


def tensor(name: str, values: Sequence | np.ndarray, dtype: type) -> grpc.InferInput:
    """An input, of the shape of `values`, which NumPy turns into the dtype; `arguments` checks what users give."""
    array: np.ndarray = np.asarray(values, dtype)
    made = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def scores_of(user_ids: Sequence[Id], movie_ids: Sequence[Id], model: str) -> Question[Scores]:
    """Pairs in requests of `PAIRS_AT_ONCE`. Where the repository's version changes between two of them, those that the
    version before answered are asked again: a result is of one version.

    Raises:
        UserError: an argument is not what it must be.
    """
    users, movies = arguments.pairs(user_ids, movie_ids)
    chosen = _choice("model", model)
    parts = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, max(1, len(users)), PAIRS_AT_ONCE)]
    answers: dict[int, grpc.InferResult] = {}
    version = None
    while left := [place for place in range(len(parts)) if place not in answers or _version(answers[place]) != version]:
        part = parts[left[0]]
        pairs = [ids_tensor("user_id", users[part]), ids_tensor("movie_id", movies[part])]
        answer = answers[left[0]] = yield Request("score", [*pairs, *chosen])
        version = _version(answer)
    score, known = (
        np.concatenate([answers[place].as_numpy(name) for place in range(len(parts))]) for name in ("score", "known")
    )
    return Scores(score, known, version or 0)


def recommendations_for(
    user_id: Id | None, k: int, history: Sequence[Id], model: str, strategy: str
) -> Question[Recommendations]:
    """
    Raises:
        UserError: an argument is not what it must be.
    """
    inputs = [] if user_id is None else [_one("user_id", user_id)]
    liked = arguments.ids("history", history)
    if len(liked) or user_id is None:
        inputs.append(ids_tensor("history", liked))
    inputs += [_k(k), *_choice("model", model), *_choice("strategy", strategy)]
    answer = yield Request("recommend", inputs)
    known = bool(answer.as_numpy("known")[0])
    return Recommendations(ids_of(answer, "movie_id"), answer.as_numpy("score"), known, _version(answer))


def similar_to(movie_id: Id, k: int = DEFAULT_K) -> Question[Similar]:
    """
    Raises:
        UserError: an argument is not what it must be.
    """
    answer = yield Request("similar", [_one("movie_id", movie_id), _k(k)])
    return Similar(ids_of(answer, "movie_id"), answer.as_numpy("score"), _version(answer))


def _version(answer: grpc.InferResult) -> int:
    return int(answer.get_response().model_version or 0)


def _one(name: str, value: Id) -> grpc.InferInput:
    return ids_tensor(name, arguments.one_id(name, value))


def _k(k: int) -> grpc.InferInput:
    return tensor("k", [arguments.number_of_movies(k)], np.int32)


def _choice(name: str, value: str) -> list[grpc.InferInput]:
    """The input that names one of the server's, such as a model; none for the server's default."""
    wanted = arguments.choice(name, value)
    return [tensor(name, [wanted], np.object_)] if wanted else []
