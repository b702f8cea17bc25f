"""For whom recommendations are wanted, and what the server is asked for them."""

from dataclasses import dataclass

from ensemble.triton_models.limits import LARGEST_HISTORY, LARGEST_K

K = 10


@dataclass(frozen=True)
class Question:
    """For whom movies are wanted.

    Attributes:
        user_id: a user of the dataset as the networks know them; None for someone new.
        liked: movies that they like, the latest last: the history of someone new, and what reasons refer to.
        seen: movies that are not to be recommended, with those of `liked`.
    """

    user_id: int | None = None
    liked: tuple[int, ...] = ()
    seen: frozenset[int] = frozenset()


def request(question: Question) -> tuple[tuple[int, ...], int, frozenset[int]]:
    """The history and the number of movies to ask for, and which of them are not to be shown."""
    if question.user_id is not None:  # what the user has rated is left out as well
        return tuple(sorted(question.seen))[-LARGEST_HISTORY:], K, frozenset()
    hidden = question.seen - set(question.liked)  # the server leaves the history out itself
    history = question.liked[-LARGEST_HISTORY:]
    hidden |= set(question.liked) - set(history)
    return history, min(LARGEST_K, K + len(hidden)), frozenset(hidden)
