"""Draws from the synthetic model: the truth, what each user watches and in which order, and when."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import softmax  # type: ignore[import-untyped]

from workflows.synthetic.truth import (
    ACTIVITY,
    BETA,
    BIAS,
    DIMENSIONS,
    GAMMA,
    GENRE_SHARE,
    HEAD,
    QUALITY,
    SKEW,
    TASTES,
    Truth,
)

FEWEST_RATINGS = 20  # of a user, as in MovieLens
IDS_PER_MOVIE = 209_171 / 62_423  # ML-25M's highest movie id and number of movies
FIRST_TIME, LAST_TIME = 820_454_400, 1_577_836_800  # the beginnings of 1996 and 2020, Unix seconds
PAUSE, PAUSE_CHANCE, BREAK = 20.0, 1 / 60, 5 * 86_400.0  # mean seconds between ratings; of a break, how often and long

# The genres of MovieLens' CSV releases, and how many of ML-25M's movies have each, in thousands
GENRE_WEIGHTS = {
    **{"Action": 7.3, "Adventure": 4.1, "Animation": 2.9, "Children": 2.9, "Comedy": 16.9, "Crime": 5.3},
    **{"Documentary": 5.6, "Drama": 25.6, "Fantasy": 2.7, "Film-Noir": 0.35, "Horror": 6.0, "IMAX": 0.2},
    **{"Musical": 1.05, "Mystery": 2.9, "Romance": 7.7, "Sci-Fi": 3.6, "Thriller": 8.7, "War": 1.9, "Western": 1.4},
}
GENRE_COUNTS = (0.03, 0.4, 0.35, 0.17, 0.05)  # the chances of none, 1, 2, 3, 4


@dataclass(frozen=True)
class Shape:
    """How many users, movies, ratings and tags a release has."""

    users: int
    movies: int
    ratings: int
    tags: int


def activity(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """How many movies each user rates, int64 [users], with the sum that the shape asks for."""
    beyond = shape.ratings - FEWEST_RATINGS * shape.users
    excess = rng.lognormal(-(ACTIVITY**2) / 2, ACTIVITY, shape.users) * beyond / shape.users
    ends = np.cumsum(np.minimum(excess, shape.movies / 3 - FEWEST_RATINGS))
    return FEWEST_RATINGS + np.diff(np.rint(ends * (beyond / (ends[-1] or 1.0))).astype(np.int64), prepend=0)


def draw_truth(
    for_movies: np.random.Generator, for_users: np.random.Generator, shape: Shape, counts: np.ndarray
) -> tuple[Truth, np.ndarray]:
    """The truth, and which genres each movie has, bool [movies, 19]."""
    rng, movies = for_movies, shape.movies
    weights = np.array(list(GENRE_WEIGHTS.values()))
    race = rng.standard_exponential((movies, len(weights))) / weights  # the first k are k drawn without replacement
    has = rng.choice(len(GENRE_COUNTS), movies, p=GENRE_COUNTS)
    genres = race.argsort(axis=1).argsort(axis=1) < has[:, None]
    of_genres = genres @ rng.standard_normal((len(weights), DIMENSIONS)) / np.sqrt(np.maximum(has, 1))[:, None]
    noise = rng.standard_normal((movies, DIMENSIONS))
    style = np.where(has[:, None] > 0, GENRE_SHARE**0.5 * of_genres + (1 - GENRE_SHARE) ** 0.5 * noise, noise)
    tastes = rng.standard_normal((TASTES, DIMENSIONS))
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    popularity = (rng.permutation(movies) + 1 + HEAD * movies) ** -SKEW
    appeal = popularity[:, None] * np.exp(BETA * style @ tastes.T)
    appeal /= appeal.sum(axis=0)
    movie_ids = np.sort(rng.choice(round(movies * IDS_PER_MOVIE), movies, replace=False)) + 1
    quality = rng.normal(0, QUALITY, movies)

    preference = for_users.standard_normal((shape.users, DIMENSIONS))
    bias = for_users.normal(0, BIAS, shape.users)
    mixture = softmax(GAMMA * preference @ tastes.T, axis=1)
    fit = _fit_moments(preference, mixture, style, appeal, counts)
    user_ids = np.arange(1, shape.users + 1)
    truth = Truth(
        user_ids=user_ids,
        movie_ids=movie_ids,
        preference=preference,
        style=style,
        bias=bias,
        quality=quality,
        mixture=mixture,
        appeal=appeal,
        fit=fit,
    )
    return truth, genres


def _fit_moments(
    preference: np.ndarray, mixture: np.ndarray, style: np.ndarray, appeal: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
    """Mean and standard deviation of preference . style over draws from P(m | u), users weighted by their activity.

    In closed form, from each taste's first two moments of style: E[f | u] = p . sum_z mixture_z E[q | z], and likewise
    for f^2 with E[q q' | z].
    """
    first = appeal.T @ style
    second = np.einsum("mz,mi,mj->zij", appeal, style, style, optimize=True)
    mean = np.einsum("ui,uz,zi->u", preference, mixture, first, optimize=True)
    square = np.einsum("uz,uz->u", mixture, np.einsum("ui,zij,uj->uz", preference, second, preference, optimize=True))
    overall = np.average(mean, weights=counts)
    return float(overall), float(np.sqrt(np.average(square, weights=counts) - overall**2))


def draw_movies(
    rng: np.random.Generator, mixture: np.ndarray, appeal: np.ndarray, counts: np.ndarray, by_race: np.ndarray
) -> np.ndarray:
    """Each user's movies one after the other from P(. | u), without those already drawn.

    By rejection: a taste, a movie of that taste, again where the user has it. By race, where rejection would get long:
    movie m arrives at the time E_m / P(m | u) with E_m ~ Exp(1), and the first to arrive are taken in their order. The
    law is the same (Efraimidis and Spirakis, "Weighted Random Sampling with a Reservoir", 2006).

    Args:
        mixture: float64 [users, tastes]. appeal: float64 [movies, tastes]. counts: int64 [users].
        by_race: bool [users], whose movies to draw by race.

    Returns:
        int32 [sum of counts], positions of movies, user by user, in the order of drawing.
    """
    drawn = np.empty(counts.sum(), np.int32)
    ends = np.cumsum(counts)
    cumulated = np.cumsum(np.ascontiguousarray(appeal.T), axis=1)
    _draw_by_rejection(rng, np.cumsum(mixture, axis=1), cumulated, np.append(0, ends), by_race, drawn)
    for user in np.flatnonzero(by_race):
        count = counts[user]
        arrival = rng.standard_exponential(len(appeal)) / (appeal @ mixture[user])
        first = np.argpartition(arrival, count - 1)[:count]
        drawn[ends[user] - count : ends[user]] = first[np.argsort(arrival[first])]
    return drawn


@njit
def _draw_by_rejection(
    rng: np.random.Generator,
    mixture: np.ndarray,
    appeal: np.ndarray,
    bounds: np.ndarray,
    skip: np.ndarray,
    drawn: np.ndarray,
) -> None:
    """Fills `drawn`, of each user from bounds[user] to bounds[user + 1].

    `mixture` [users, tastes] and `appeal` [tastes, movies] are cumulated along their second axis.
    """
    tastes, movies = appeal.shape
    seen_by = np.full(movies, -1)
    for user in range(len(bounds) - 1):
        if skip[user]:
            continue
        row = bounds[user]
        while row < bounds[user + 1]:
            # by the last sum and not by 1, from which rounding parts it
            taste = np.searchsorted(mixture[user], rng.random() * mixture[user, tastes - 1], side="right")
            movie = np.searchsorted(appeal[taste], rng.random() * appeal[taste, movies - 1], side="right")
            if seen_by[movie] != user:
                seen_by[movie] = user
                drawn[row] = movie
                row += 1


def draw_times(rng: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    """Unix seconds, int64 [sum of counts], strictly rising within a user: minutes, and now and then days, apart."""
    gaps = 1 + rng.exponential(PAUSE, counts.sum())
    pauses = rng.random(len(gaps)) < PAUSE_CHANCE
    gaps[pauses] += rng.exponential(BREAK, pauses.sum())
    passed = np.cumsum(gaps.astype(np.int64))
    starts = np.cumsum(counts) - counts
    return passed + np.repeat(rng.integers(FIRST_TIME, LAST_TIME, len(counts)) - passed[starts], counts)
