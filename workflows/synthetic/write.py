"""The files of a synthetic release, in MovieLens' CSV layout: ratings, movies, links, tags, and what they are."""

import csv
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.columns import RATINGS_COLUMNS, RAW_MOVIE, RAW_USER
from workflows.sources.frames import NO_GENRES
from workflows.sources.layouts.movielens_csv import MOVIES_HEADER
from workflows.synthetic.draw import GENRE_WEIGHTS, Shape, draw_movies, draw_times
from workflows.synthetic.truth import NOISE, Truth

RACE_RATINGS, RACE_SHARE = 1500, 0.1  # a user who rates more, or more of the catalogue, is drawn by race
BLOCK = 500_000  # ratings drawn and written at a time
FIRST_YEAR, LAST_YEAR = 1902, 2019
TAG_DELAY = 3_600.0  # mean seconds from the rating to the tag
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
class Ratings:
    """The drawn ratings by user and then movie, both as positions, and each user's last movie by time."""

    _: KW_ONLY
    starts: np.ndarray  # int64 [users + 1]: a user's ratings are those from starts[user] to starts[user + 1]
    movie: np.ndarray  # int32 [ratings]
    halves: np.ndarray  # int8 [ratings], half stars
    timestamp: np.ndarray  # int64 [ratings], Unix seconds
    last: np.ndarray  # int32 [users]

    def user_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, rows, side="right") - 1


def write_ratings(
    rng: np.random.Generator, path: Path, truth: Truth, counts: np.ndarray, advance: Callable[[float, str], None]
) -> Ratings:
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
            drawn = draw_movies(rng, truth.mixture[block], truth.appeal, counts[block], by_race[block])
            times = draw_times(rng, counts[block])
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
    return Ratings(starts=starts, movie=movie, halves=halves, timestamp=timestamp, last=last)


def write_tags(rng: np.random.Generator, path: Path, truth: Truth, ratings: Ratings, tags: int) -> None:
    """At most one tag for a rating, given after it; nothing where there are none."""
    if not tags:
        return
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


def write_movies(rng: np.random.Generator, out: Path, movie_ids: np.ndarray, genres: np.ndarray) -> None:
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


def readme(like: str, scale: float, seed: int, shape: Shape) -> str:
    return f"""Everything in this folder is synthetic. No rating, tag, title or id in it is MovieLens' own, and
no person gave any of them.

It was written by

    python -m marquee synth --like {like} --scale {scale} --seed {seed}

in MovieLens' CSV layout and about the size of {like}: {shape.ratings:,} ratings and {shape.tags:,} tags of
{shape.movies:,} movies by {shape.users:,} users. workflows/synthetic/truth.py in Marquee says how they were drawn.
The truth-*.parquet files hold what they were drawn from, and synth.json the best metrics that any model can reach.

How well a model does here does not show how well it does on real ratings.
"""


def _append_csv(file: BinaryIO, columns: dict[str, Any]) -> None:
    """Writes rows without a header. Nothing is quoted: no value may hold a comma, a quote or the end of a line.

    Arrow's own writer cannot be used: before its release 12 it quotes every text.
    """
    *first, last = (column.combine_chunks().cast(pa.string()) for column in pa.table(columns).columns)
    lines = pc.binary_join_element_wise(*first, pc.binary_join_element_wise(last, "\n", ""), ",")
    file.write(lines.buffers()[2])
