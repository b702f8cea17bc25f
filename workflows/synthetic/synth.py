"""A made-up stand-in for a MovieLens release, at its size, with a known truth.

GroupLens' files may not be passed on and cannot be had everywhere. This module draws ratings from a model of which all
is known, so that a whole run can be tried at full size, and its metrics held against the best that any model can reach.
Nothing in it is a rating that somebody gave.

Movies. Movie m has up to 4 genres, a style q_m ~ N(0, I) in R^8, half of whose variance comes from its genres, a
quality c_m ~ N(0, 0.45^2), and a popularity w_m = (rank_m + 0.0015 movies)^-1.2 by a shuffled rank (Mandelbrot, 1953).

Users. User u has a preference p_u ~ N(0, I) in R^8, a bias b_u ~ N(0, 0.4^2), and a mixture of 24 tastes, whose
directions t_z are unit vectors:

    mixture_uz = softmax_z(GAMMA t_z . p_u)        appeal_mz = w_m exp(BETA t_z . q_m) / (the sum over the movies)

    P(m | u) = sum_z mixture_uz appeal_mz

Popularity is flatter than ML-25M's on purpose. By (rank + 180)^-1.6, whose head is more like ML-25M's, popularity alone
finds nearly nine in ten held-out movies among 99 others (measured), and leaves a model little to show. Here it finds
between seven and eight in ten at that size, and the truth nine.

What is watched. A user's movies are drawn one after the other from P(. | u) without those already drawn (successive
sampling). So whatever came before, the chance that an unseen movie is the next is proportional to P(m | u), and no
ranking of unseen movies beats the one by P(m | u). How many a user rates is 20 plus a capped log-normal number.

Stars. With the fit f = p_u . q_m, made to have mean 0 and standard deviation 1 over draws from P(. | u),

    x = 3.55 + b_u + c_m + 0.45 f + N(0, 0.8^2), rounded to half stars and clipped to 0.5 ... 5

    P(more than 3 stars) = P(x >= 3.25) = Phi((3.55 + b_u + c_m + 0.45 f - 3.25) / 0.8)
"""

import csv
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numba import njit
from scipy.special import ndtr, softmax  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score

from core.artifacts import fingerprint, is_current, new_folder
from core.columns import RATINGS_COLUMNS, RAW_MOVIE, RAW_USER
from core.errors import UserError
from core.json_files import read_json, write_json
from workflows.negatives import NegativeSampler
from workflows.sources.datasets import DATASETS
from workflows.sources.readers import MOVIES_HEADER, NO_GENRES

FORMAT = 1  # of the folder; a change of the model or of the order of its draws is a new one
LARGEST_SCALE = 4.0
FEWEST_USERS = 50
FEWEST_RATINGS = 20  # of a user, as in MovieLens
CATALOGUE = 10  # times what a user rates on average: the fewest movies, so that there are some left to recommend

DIMENSIONS, TASTES = 8, 24
BETA, GAMMA = 2.6, 6.0  # how sharply a taste tells movies apart, and a user tastes
SKEW, HEAD = 1.2, 0.0015  # popularity (rank + HEAD * movies) ** -SKEW
GENRE_SHARE = 0.5  # of the variance of a movie's style
STARS, QUALITY, BIAS, FIT, NOISE = 3.55, 0.45, 0.4, 0.45, 0.8  # the mean, and standard deviations, in stars
LIKED = 3.25  # where 3.5 stars begin
ACTIVITY = 1.39  # sigma of the log-normal: ML-25M's users have 51 ratings beyond the 20 in the median, 134 on average
PARAMETERS = {
    **{"dimensions": DIMENSIONS, "tastes": TASTES, "beta": BETA, "gamma": GAMMA, "skew": SKEW, "head": HEAD},
    **{"genre_share": GENRE_SHARE, "stars": STARS, "quality_sd": QUALITY, "bias_sd": BIAS, "fit_sd": FIT},
    **{"noise_sd": NOISE, "activity_sigma": ACTIVITY},
}
RACE_RATINGS, RACE_SHARE = 1500, 0.1  # a user who rates more, or more of the catalogue, is drawn by race

FIRST_YEAR, LAST_YEAR = 1902, 2019
IDS_PER_MOVIE = 209_171 / 62_423  # ML-25M's highest movie id and number of movies
FIRST_TIME, LAST_TIME = 820_454_400, 1_577_836_800  # the beginnings of 1996 and 2020, Unix seconds
PAUSE, PAUSE_CHANCE, BREAK = 20.0, 1 / 60, 5 * 86_400.0  # mean seconds between ratings; of a break, how often and long
TAG_DELAY = 3_600.0  # mean seconds from the rating to the tag

BLOCK = 500_000  # ratings drawn and written at a time
BEST_USERS, BEST_RATINGS = 20_000, 2_000_000  # how many the best reachable metrics are measured on
NEGATIVES, K = 99, 10

# The genres of MovieLens' CSV releases, and how many of ML-25M's movies have each, in thousands
GENRE_WEIGHTS = {
    **{"Action": 7.3, "Adventure": 4.1, "Animation": 2.9, "Children": 2.9, "Comedy": 16.9, "Crime": 5.3},
    **{"Documentary": 5.6, "Drama": 25.6, "Fantasy": 2.7, "Film-Noir": 0.35, "Horror": 6.0, "IMAX": 0.2},
    **{"Musical": 1.05, "Mystery": 2.9, "Romance": 7.7, "Sci-Fi": 3.6, "Thriller": 8.7, "War": 1.9, "Western": 1.4},
}
GENRE_COUNTS = (0.03, 0.4, 0.35, 0.17, 0.05)  # the chances of none, 1, 2, 3, 4
ADJECTIVES = (  # noqa: SIM905 - as a list it would fill a page
    "Amber Ancient Bitter Blue Borrowed Broken Burning Crooked Distant Early Empty Endless Fallen Foreign Forgotten "
    "Frozen Gentle Golden Hidden Hollow Hungry Iron Last Late Little Lonely Long Lost Midnight Narrow Northern Open "
    "Paper Patient Perfect Quiet Restless Second Secret Silent Silver Sleeping Stolen Strange Tall Velvet Winter Wooden"
).split()
NOUNS = (  # noqa: SIM905 - as a list it would fill a page
    "Apprentice Arrow Autumn Bridge Captain Carnival Children Circus City Clock Compass Dancer Daughter Detective "
    "Distance Empire Engine Evening Ferry Field Fire Forest Garden Glass Guest Harbour Horizon Hotel House Island "
    "Journey Kingdom Lantern Letter Machine Mirror Mountain Neighbour Night Ocean Orchard Passenger Promise River Road "
    "Shadow Station Stranger Summer Tower Train Valley Voyage Widow Window"
).split()
TITLES = ("{0} {1}, The", "{0} {1}", "{1} of the {2}, The", "{1} and {2}", "{0} {1}, A", '"{0}" {1}')
TITLE_CHANCES = (0.3, 0.3, 0.2, 0.14, 0.05, 0.01)
TAGS = (  # noqa: SIM905 - as a list it would fill a page
    "atmospheric,based on a book,beautiful,boring,classic,clever,cult film,dark comedy,dialogue,disturbing,dystopia,"
    "ensemble cast,feel-good,funny,great ending,great soundtrack,heist,melancholy,predictable,quirky,remake,satire,"
    "slow,small town,space,surreal,suspense,time travel,true story,twist ending,visually stunning,witty"
).split(",")


@dataclass(frozen=True)
class Shape:
    """How many users, movies, ratings and tags a release has."""

    users: int
    movies: int
    ratings: int
    tags: int


TAGGINGS = {"ml-20m": 465_564, "ml-25m": 1_093_360, "ml-32m": 2_000_072, "ml-latest-small": 3_683}  # GroupLens' numbers
LIKE = {
    name: Shape(DATASETS[name].users, DATASETS[name].movies, DATASETS[name].ratings, tags)
    for name, tags in TAGGINGS.items()
}


@dataclass(frozen=True)
class Truth:
    """What the ratings were drawn from. Users and movies are in ascending order of their ids.

    Attributes:
        user_ids: int64 [users]. movie_ids: int64 [movies].
        preference: float64 [users, 8]. style: float64 [movies, 8].
        bias: float64 [users], stars. quality: float64 [movies], stars.
        mixture: float64 [users, 24], rows sum to 1. appeal: float64 [movies, 24], columns sum to 1.
        fit: mean and standard deviation of preference . style over draws from P(. | u).
    """

    user_ids: np.ndarray
    movie_ids: np.ndarray
    preference: np.ndarray
    style: np.ndarray
    bias: np.ndarray
    quality: np.ndarray
    mixture: np.ndarray
    appeal: np.ndarray
    fit: tuple[float, float]

    def watch(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """P(m | u): proportional, over a user's unseen movies, to the chance that the movie is the next one.

        Args:
            user_ids, movie_ids: int64 [n], as in `ratings.csv`.

        Returns:
            float64 [n]; over the whole catalogue a user's sum to 1.

        Raises:
            ValueError: an id that is not in the folder.
        """
        return _dots(self.mixture, _find(self.user_ids, user_ids), self.appeal, _find(self.movie_ids, movie_ids))

    def like(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """The probability of more than 3 stars, float64 [n]. Arguments and errors as in `watch`."""
        return ndtr((self.stars(_find(self.user_ids, user_ids), _find(self.movie_ids, movie_ids)) - LIKED) / NOISE)

    def stars(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """The expected stars before noise, rounding and clipping: float64 [n] of int [n] positions, not ids."""
        mean, deviation = self.fit
        fit = (_dots(self.preference, user, self.style, movie) - mean) / deviation
        return STARS + self.bias[user] + self.quality[movie] + FIT * fit


@dataclass(frozen=True)
class _Ratings:
    """The drawn ratings by user and then movie, both as positions, and each user's last movie by time."""

    starts: np.ndarray  # int64 [users + 1]: a user's ratings are those from starts[user] to starts[user + 1]
    movie: np.ndarray  # int32 [ratings]
    halves: np.ndarray  # int8 [ratings], half stars
    timestamp: np.ndarray  # int64 [ratings], Unix seconds
    last: np.ndarray  # int32 [users]

    def user_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, rows, side="right") - 1


def synthesise(folder: Path, like: str, scale: float, seed: int, advance: Callable[[float, str], None]) -> dict:
    """Writes a made-up release in MovieLens' CSV layout, with its truth: `folder` is whole or not there.

    A folder that was made with the same arguments, and has not changed since, is left as it is. The same arguments
    give the same bytes on the same machine.

    Args:
        folder: gets `ratings.csv`, `movies.csv`, `tags.csv`, `links.csv`, `truth-users.parquet`,
            `truth-movies.parquet`, `synth.json`, `README.txt` and a manifest.
        like: whose size to take, one of `LIKE`.
        scale: times how many users, movies, ratings and tags; above 0, at most 4. A small catalogue shrinks less: it
            keeps ten times as many movies as a user rates on average.
        seed: what everything is drawn from, 0 or more.
        advance: is called with the number of ratings written and an empty note.

    Returns:
        What `synth.json` holds: the arguments, counts, parameters, the best metrics that any model can reach
        (leave-one-out HR@10 and NDCG@10 against 99 movies; AUC of more than 3 stars), and popularity's HR@10.

    Raises:
        UserError: an unknown `like`, a scale or seed out of range, or a folder that holds something else.
    """
    scale = float(scale)
    shape = _shape(like, scale)
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; give 0 or more")
    made_from = fingerprint(format=FORMAT, like=like, scale=scale, seed=seed)
    if folder.exists():
        if is_current(folder, made_from):
            return read_json(folder / "synth.json")
        raise UserError(
            f"{folder} exists and is not {like} at scale {scale} from seed {seed}; remove it or give another --out"
        )
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)]
    for_movies, for_users, for_ratings, for_text, for_tags, for_best = streams
    counts = _activity(for_users, shape)
    truth, genres = _draw_truth(for_movies, for_users, shape, counts)
    with new_folder(folder, made_from) as out:
        _write_movies(for_text, out, truth.movie_ids, genres)
        _write_truth(out, truth)
        ratings = _write_ratings(for_ratings, out / "ratings.csv", truth, counts, advance)
        _write_tags(for_tags, out / "tags.csv", truth, ratings, shape.tags)
        best, popularity = _measure(for_best, truth, ratings)
        facts = {
            "format": FORMAT,
            **{"like": like, "scale": scale, "seed": seed},
            "counts": asdict(shape),
            "parameters": PARAMETERS | {"fit_mean": truth.fit[0], "fit_scale": truth.fit[1]},
            "best": best,
            "popularity": popularity,
        }
        write_json(out / "synth.json", facts)
        (out / "README.txt").write_text(_readme(like, scale, seed, shape), encoding="utf-8")
    return facts


def ratings_of(like: str, scale: float) -> int:
    """How many ratings `synthesise` will write.

    Raises:
        UserError: an unknown `like`, or a scale out of range.
    """
    return _shape(like, scale).ratings


def load_truth(folder: Path) -> Truth:
    """The truth behind a folder that `synthesise` wrote.

    Raises:
        UserError: the folder is none, or another version of Marquee wrote it.
    """
    remedy = "make the folder again: python -m marquee synth"
    if not (folder / "synth.json").is_file():
        raise UserError(f"{folder} holds no synth.json, so its truth is not known; {remedy}")
    facts = read_json(folder / "synth.json")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f"{folder / 'synth.json'} is of another version of Marquee; {remedy}")
    try:
        users, movies = (pq.read_table(folder / f"truth-{name}.parquet") for name in ("users", "movies"))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{folder}: its truth cannot be read ({error}); {remedy}") from None
    return Truth(
        users[RAW_USER].to_numpy(),
        movies[RAW_MOVIE].to_numpy(),
        _matrix(users["preference"]),
        _matrix(movies["style"]),
        users["bias"].to_numpy(),
        movies["quality"].to_numpy(),
        _matrix(users["mixture"]),
        _matrix(movies["appeal"]),
        (facts["parameters"]["fit_mean"], facts["parameters"]["fit_scale"]),
    )


def _shape(like: str, scale: float) -> Shape:
    if like not in LIKE:
        raise UserError(f"unknown release {like!r}; choose one of {', '.join(LIKE)}")
    if not 0 < scale <= LARGEST_SCALE:
        raise UserError(f"--scale {scale} is out of range; give more than 0 and at most {LARGEST_SCALE:g}")
    full = LIKE[like]
    users, ratings = max(FEWEST_USERS, round(full.users * scale)), round(full.ratings * scale)
    if ratings < users * FEWEST_RATINGS:
        least = math.ceil(FEWEST_USERS * FEWEST_RATINGS / full.ratings * 1e6) / 1e6
        raise UserError(
            f"--scale {scale} leaves {users} users of {like} with under {FEWEST_RATINGS} ratings each; "
            f"give {least:g} or more"
        )
    movies = max(round(full.movies * scale), CATALOGUE * round(ratings / users))
    return Shape(users, movies, ratings, min(round(full.tags * scale), ratings))


# -- the truth ---------------------------------------------------------------------------------------------------------


def _activity(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """How many movies each user rates, int64 [users], with the sum that the shape asks for."""
    beyond = shape.ratings - FEWEST_RATINGS * shape.users
    excess = rng.lognormal(-(ACTIVITY**2) / 2, ACTIVITY, shape.users) * beyond / shape.users
    ends = np.cumsum(np.minimum(excess, shape.movies / 3 - FEWEST_RATINGS))
    return FEWEST_RATINGS + np.diff(np.rint(ends * (beyond / (ends[-1] or 1.0))).astype(np.int64), prepend=0)


def _draw_truth(
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
    return Truth(user_ids, movie_ids, preference, style, bias, quality, mixture, appeal, fit), genres


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


def _find(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions in the ascending `ids`."""
    found = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    if not np.array_equal(ids[found], wanted):
        raise ValueError("an id is not in the folder")
    return found


@njit
def _dots(left: np.ndarray, left_row: np.ndarray, right: np.ndarray, right_row: np.ndarray) -> np.ndarray:
    """left[left_row[i]] . right[right_row[i]] for each i, without the copies that indexing would make."""
    out = np.zeros(len(left_row))
    for i in range(len(left_row)):
        for k in range(left.shape[1]):
            out[i] += left[left_row[i], k] * right[right_row[i], k]
    return out


def _write_truth(out: Path, truth: Truth) -> None:
    users = {
        **{RAW_USER: truth.user_ids, "bias": truth.bias},
        **{"preference": _lists(truth.preference), "mixture": _lists(truth.mixture)},
    }
    movies = {
        **{RAW_MOVIE: truth.movie_ids, "quality": truth.quality},
        **{"style": _lists(truth.style), "appeal": _lists(truth.appeal)},
    }
    pq.write_table(pa.table(users), out / "truth-users.parquet")
    pq.write_table(pa.table(movies), out / "truth-movies.parquet")


def _lists(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return pa.concat_arrays(column.chunks).flatten().to_numpy().reshape(len(column), -1)


# -- what is watched ---------------------------------------------------------------------------------------------------


def _draw_movies(
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
    _draw_by_rejection(rng, np.cumsum(mixture, axis=1), cumulated, ends - counts, ends, by_race, drawn)
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
    starts: np.ndarray,
    ends: np.ndarray,
    skip: np.ndarray,
    drawn: np.ndarray,
) -> None:
    """Fills `drawn`; `mixture` [users, tastes] and `appeal` [tastes, movies] are cumulated along their second axis."""
    tastes, movies = appeal.shape
    seen_by = np.full(movies, -1)
    for user in range(len(starts)):
        if skip[user]:
            continue
        row = starts[user]
        while row < ends[user]:
            # by the last sum and not by 1, from which rounding parts it
            taste = np.searchsorted(mixture[user], rng.random() * mixture[user, tastes - 1], side="right")
            movie = np.searchsorted(appeal[taste], rng.random() * appeal[taste, movies - 1], side="right")
            if seen_by[movie] != user:
                seen_by[movie] = user
                drawn[row] = movie
                row += 1


def _draw_times(rng: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    """Unix seconds, int64 [sum of counts], strictly rising within a user: minutes, and now and then days, apart."""
    gaps = 1 + rng.exponential(PAUSE, counts.sum())
    pauses = rng.random(len(gaps)) < PAUSE_CHANCE
    gaps[pauses] += rng.exponential(BREAK, pauses.sum())
    passed = np.cumsum(gaps.astype(np.int64))
    starts = np.cumsum(counts) - counts
    return passed + np.repeat(rng.integers(FIRST_TIME, LAST_TIME, len(counts)) - passed[starts], counts)


# -- the files ---------------------------------------------------------------------------------------------------------


def _write_ratings(
    rng: np.random.Generator, path: Path, truth: Truth, counts: np.ndarray, advance: Callable[[float, str], None]
) -> _Ratings:
    """Draws and writes block after block of whole users."""
    starts = np.append(0, np.cumsum(counts))
    total, movies = int(starts[-1]), len(truth.movie_ids)
    by_race = counts > min(RACE_RATINGS, RACE_SHARE * movies)
    movie, halves = np.empty(total, np.int32), np.empty(total, np.int8)
    timestamp, last = np.empty(total, np.int64), np.empty(len(counts), np.int32)
    stars_text = pa.array([f"{half / 2:.1f}" for half in range(11)])
    bounds = np.unique(np.append(np.searchsorted(starts, np.arange(0, total, BLOCK)), len(counts)))
    with open(path, "wb") as file:
        file.write(f"{','.join(RATINGS_COLUMNS)}\n".encode())
        for first, end in pairwise(bounds.tolist()):
            block, rows = slice(first, end), slice(starts[first], starts[end])
            drawn = _draw_movies(rng, truth.mixture[block], truth.appeal, counts[block], by_race[block])
            times = _draw_times(rng, counts[block])
            user = np.repeat(np.arange(first, end), counts[block])
            last[block] = drawn[starts[first + 1 : end + 1] - 1 - starts[first]]
            order = np.argsort(user * movies + drawn)
            movie[rows], timestamp[rows] = drawn[order], times[order]
            stars = truth.stars(user, movie[rows]) + rng.normal(0, NOISE, len(user))
            halves[rows] = np.clip(np.rint(2 * stars), 1, 10)
            text = pa.DictionaryArray.from_arrays(pa.array(halves[rows]), stars_text).cast(pa.string())
            columns = (truth.user_ids[user], truth.movie_ids[movie[rows]], text, timestamp[rows])
            _append_csv(file, dict(zip(RATINGS_COLUMNS, columns)))
            advance(len(user), "")
    return _Ratings(starts, movie, halves, timestamp, last)


def _append_csv(file: Any, columns: dict[str, Any]) -> None:
    """Rows without a header, whose names Arrow would quote; no value may hold a comma or a quote."""
    pa_csv.write_csv(pa.table(columns), file, pa_csv.WriteOptions(include_header=False, quoting_style="none"))


def _write_tags(rng: np.random.Generator, path: Path, truth: Truth, ratings: _Ratings, tags: int) -> None:
    """At most one tag for a rating, given after it."""
    rows = np.sort(rng.choice(len(ratings.movie), tags, replace=False, shuffle=False))
    words = pa.array(rng.integers(0, len(TAGS), tags).astype(np.int8))
    columns = {
        RAW_USER: truth.user_ids[ratings.user_of(rows)],
        RAW_MOVIE: truth.movie_ids[ratings.movie[rows]],
        "tag": pa.DictionaryArray.from_arrays(words, pa.array(TAGS)).cast(pa.string()),
        "timestamp": ratings.timestamp[rows] + rng.exponential(TAG_DELAY, tags).astype(np.int64),
    }
    with open(path, "wb") as file:
        file.write(f"{','.join(columns)}\n".encode())
        _append_csv(file, columns)


def _write_movies(rng: np.random.Generator, out: Path, movie_ids: np.ndarray, genres: np.ndarray) -> None:
    """`movies.csv` and `links.csv`."""
    movies, names = len(movie_ids), list(GENRE_WEIGHTS)
    years = LAST_YEAR - (rng.beta(0.9, 3.0, movies) * (LAST_YEAR - FIRST_YEAR + 1)).astype(int)
    patterns = rng.choice(len(TITLES), movies, p=TITLE_CHANCES)
    adjectives, nouns = rng.integers(0, len(ADJECTIVES), movies), rng.integers(0, len(NOUNS), (movies, 2))
    imdb = rng.choice(9_999_999, movies, replace=False) + 1
    tmdb = np.where(rng.random(movies) < 0.002, 0, rng.choice(600_000, movies, replace=False) + 1)
    with (
        open(out / "movies.csv", "w", encoding="utf-8", newline="") as movies_file,
        open(out / "links.csv", "w", encoding="utf-8", newline="") as links_file,
    ):
        titles, links = (csv.writer(file, lineterminator="\n") for file in (movies_file, links_file))
        titles.writerow(MOVIES_HEADER)
        links.writerow((RAW_MOVIE, "imdbId", "tmdbId"))
        for row, movie in enumerate(movie_ids.tolist()):
            words = ADJECTIVES[adjectives[row]], NOUNS[nouns[row, 0]], NOUNS[nouns[row, 1]]
            title = f"{TITLES[patterns[row]].format(*words)} ({years[row]})"
            titles.writerow((movie, title, "|".join(names[i] for i in np.flatnonzero(genres[row])) or NO_GENRES))
            links.writerow((movie, f"{imdb[row]:07d}", tmdb[row] or ""))


def _readme(like: str, scale: float, seed: int, shape: Shape) -> str:
    return f"""Everything in this folder is made up. No rating, tag, title or id in it is MovieLens' own, and
no person gave any of them.

It was written by

    python -m marquee synth --like {like} --scale {scale} --seed {seed}

in the layout and about the size of GroupLens' {like}: {shape.ratings:,} ratings and {shape.tags:,} tags of
{shape.movies:,} movies by {shape.users:,} users. workflows/synth.py in Marquee says how they were drawn.
The truth-*.parquet files hold what they were drawn from, and synth.json the best metrics that any model can reach.

How well a model does here does not tell how well it does on real ratings.
"""


# -- the best reachable metrics ----------------------------------------------------------------------------------------


def _measure(rng: np.random.Generator, truth: Truth, ratings: _Ratings) -> tuple[dict, dict]:
    """The truth's metrics, which no model's can beat but by chance, and popularity's, on samples."""
    counts = np.bincount(ratings.movie, minlength=len(truth.movie_ids))
    rated = np.flatnonzero(counts)
    sizes = np.diff(ratings.starts)
    users = np.sort(rng.choice(len(sizes), min(BEST_USERS, len(sizes)), replace=False))
    is_sampled = np.zeros(len(sizes), bool)
    is_sampled[users] = True
    seen = np.searchsorted(rated, ratings.movie[np.repeat(is_sampled, sizes)])
    sampler = NegativeSampler(np.repeat(np.arange(len(users)), sizes[users]), seen, 0, len(rated))
    drawn = sampler.draw_distinct(np.arange(len(users)), NEGATIVES, rng)
    candidates = np.column_stack([ratings.last[users], np.where(drawn < 0, -1, rated[drawn])])
    truth_score = _dots(truth.mixture, np.repeat(users, NEGATIVES + 1), truth.appeal, candidates.ravel())
    training = counts - np.bincount(ratings.last, minlength=len(counts))  # the last ones are what is to be found
    best = _ranking(truth_score.reshape(candidates.shape), candidates)
    popularity = _ranking(training[candidates], candidates)

    rows = rng.choice(len(ratings.movie), min(BEST_RATINGS, len(ratings.movie)), replace=False, shuffle=False)
    stars = truth.stars(ratings.user_of(rows), ratings.movie[rows])  # in the order of `like`
    best["auc"] = float(roc_auc_score(ratings.halves[rows] > 6, stars))
    return best, {"hr@10": popularity["hr@10"]}


def _ranking(scores: np.ndarray, candidates: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of the first column's movies; where there are too few others, -1 stands in their place.

    As in `models.evaluation.metrics`, which the workflow may not import: ties count against the held-out movie.
    """
    rank = ((scores[:, 1:] >= scores[:, :1]) & (candidates[:, 1:] >= 0)).sum(axis=1)
    hit = rank < K
    return {"hr@10": float(hit.mean()), "ndcg@10": float((hit / np.log2(rank + 2.0)).mean())}
