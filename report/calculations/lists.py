"""What top lists are like: coverage, novelty, diversity, and how far two models' lists agree."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.evaluation.coverage import EMPTY


@dataclass(frozen=True)
class Lists:
    """The lists of one model.

    Attributes:
        user: int64 [users], ascending.
        movie: int64 [users, places], the best first; `EMPTY` after a list's end.
    """

    user: np.ndarray
    movie: np.ndarray


def lists_of(table: pd.DataFrame) -> Lists:
    """Lists from rows of `user_id`, `place` (from 0) and `movie_id`.

    >>> lists_of(pd.DataFrame({"user_id": [7, 7, 3], "place": [1, 0, 0], "movie_id": [20, 10, 30]})).movie.tolist()
    [[30, -1], [10, 20]]
    """
    user, owner = np.unique(table["user_id"].to_numpy(), return_inverse=True)
    place = table["place"].to_numpy().astype(np.int64)
    movie = np.full((len(user), int(place.max()) + 1 if len(place) else 0), EMPTY, np.int64)
    movie[owner, place] = table["movie_id"].to_numpy()
    return Lists(user, movie)


def novelty(movie: np.ndarray, share_of: dict[int, float]) -> np.ndarray:
    """The mean self-information of each list's movies, in bits: float64 [users].

        novelty of a list = mean over its movies i of -log2(share of the users that have rated i)

    (Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", 2010.)

    Args:
        movie: int64 [users, places], as in `Lists`; no list is empty.
        share_of: each movie's share of the users, above 0.

    >>> novelty(np.array([[1, 2], [2, EMPTY]]), {1: 0.5, 2: 0.125}).tolist()
    [2.0, 3.0]
    """
    movies, place = np.unique(movie, return_inverse=True)
    bits = np.array([np.nan if one == EMPTY else -np.log2(share_of[int(one)]) for one in movies])
    return np.nanmean(bits[place.reshape(movie.shape)], axis=1) + 0.0


def diversity(movie: np.ndarray, genres_of: dict[int, frozenset[str]]) -> np.ndarray:
    """The intra-list diversity of each list by genres: float64 [users], from 0 (all the same) to 1; NaN for one movie.

        diversity of a list = mean over its pairs of movies i, j of 1 - |genres of i and j| / |genres of i or j|

    (Ziegler et al., "Improving Recommendation Lists Through Topic Diversification", 2005.) Two movies without any genre
    count as alike.

    Args:
        movie: int64 [users, places], as in `Lists`.
        genres_of: the genres of each movie.

    >>> genres = {1: frozenset({"Drama"}), 2: frozenset({"Drama", "War"}), 3: frozenset({"Comedy"})}
    >>> diversity(np.array([[1, 2, 3], [1, 1, EMPTY]]), genres).round(4).tolist()
    [0.8333, 0.0]
    """
    movies, place = np.unique(movie, return_inverse=True)
    names = sorted({name for genres in genres_of.values() for name in genres})
    column = {name: number for number, name in enumerate(names)}
    has = np.zeros((len(movies), len(names)))
    for row, one in enumerate(movies):
        has[row, [column[name] for name in genres_of.get(int(one), ())]] = 1
    lists = has[place.reshape(movie.shape)]  # [users, places, genres]
    both = np.einsum("uig,ujg->uij", lists, lists)
    count = lists.sum(axis=2)
    either = count[:, :, None] + count[:, None, :] - both
    distance = 1 - np.divide(both, either, out=np.ones_like(both), where=either > 0)
    there = movie != EMPTY
    pairs = there[:, :, None] & there[:, None, :] & np.triu(np.ones(both.shape[1:], bool), 1)
    many = pairs.sum(axis=(1, 2))
    return np.divide((distance * pairs).sum(axis=(1, 2)), many, out=np.full(len(movie), np.nan), where=many > 0)


def in_common(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How many movies two models' lists for the same user share: int64 [users].

    Args:
        one, other: int64 [users, places], as in `Lists`, of the same users.

    >>> in_common(np.array([[1, 2, 3]]), np.array([[3, 4, 1]])).tolist()
    [2]
    """
    return ((one[:, :, None] == other[:, None, :]) & (one != EMPTY)[:, :, None]).sum(axis=(1, 2))


def jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The overlap of two models' lists for each user: movies in both / in either (Jaccard, 1912); float64 [users].

    0 where both lists are empty. Arguments as in `in_common`.

    >>> jaccard(np.array([[1, 2, 3]]), np.array([[3, 4, 1]])).tolist()
    [0.5]
    """
    both = in_common(one, other)
    either = (one != EMPTY).sum(axis=1) + (other != EMPTY).sum(axis=1) - both
    return both / np.maximum(either, 1)
