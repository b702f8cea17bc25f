"""Why a movie is recommended: which liked movies are nearest to it, and which genres it shares with them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NEAREST = 2  # liked movies that a reason names
LEAST_COSINE = 0.1  # less is not near
LEAST_SHARE = 0.2  # of liked movies that have a genre; with less it is not one that they like


@dataclass(frozen=True)
class Reason:
    """See the module.

    Attributes:
        nearest: liked movies, the nearest first, at most `NEAREST`.
        genres: those of the movie that at least `LEAST_SHARE` of the liked movies have too, the most frequent first.
        share: of the first of them: how many liked movies have it.
    """

    nearest: tuple[int, ...]
    genres: tuple[str, ...]
    share: int


def reasons(
    movie_ids: Sequence[int],
    liked: Sequence[int],
    neighbours: Callable[[int], dict[int, float]],
    genres_of: Callable[[int], Sequence[str]],
) -> dict[int, Reason]:
    """A reason for each of the recommended movies.

    Args:
        neighbours: a movie's neighbours, with their cosines. Asked for the liked or for the recommended movies,
            whichever are fewer.
        genres_of: a movie's genres.
    """
    counts = Counter(genre for movie_id in liked for genre in genres_of(movie_id))
    few = liked if len(liked) < len(movie_ids) else movie_ids
    known = {one: neighbours(one) for one in few} if liked else {}
    found = {}
    for movie_id in movie_ids:
        near = known[movie_id] if few is movie_ids and known else {one: known[one].get(movie_id, 0.0) for one in known}
        nearest = sorted((one for one in liked if near.get(one, 0.0) >= LEAST_COSINE), key=near.__getitem__)[::-1]
        least = max(1.0, LEAST_SHARE * len(liked))
        shared = sorted((one for one in genres_of(movie_id) if counts[one] >= least), key=lambda one: -counts[one])
        found[movie_id] = Reason(tuple(nearest[:NEAREST]), tuple(shared), counts[shared[0]] if shared else 0)
    return found
