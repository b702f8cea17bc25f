"""A dataset's folder, of whatever layout, into the canonical tables (see `workflows.sources.layouts.base`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.columns import GENDER, GENRES, MOVIES_COLUMNS, OCCUPATION, RAW_MOVIE, RAW_USER, TIMESTAMP, TITLE, YEAR
from core.errors import UserError
from workflows.sources.find import Folder, Release, find_release
from workflows.sources.fit import cut_off, days_only, misfits
from workflows.sources.frames import clean_category, clean_genres, plausible_year
from workflows.sources.layouts.base import Layout
from workflows.sources.ratings import out_of_range
from workflows.sources.text import clean_text, shown


@dataclass
class Tables:
    """The canonical tables of a dataset.

    Attributes:
        repeated: how many repeated ratings were dropped on the way.
        notes: sentences about what is suspicious in the files.
    """

    ratings: pa.Table
    movies: pd.DataFrame
    users: pd.DataFrame
    repeated: int = 0
    notes: tuple[str, ...] = ()


def read_tables(folder: Path, layout_name: str | None = None) -> Tables:
    """Reads a dataset's folder of any known layout.

    Args:
        layout_name: the layout to look for before the others.

    Raises:
        UserError: no known layout, a missing or empty file, a malformed row, or a rating outside 0.5 to 5 stars.
    """
    return read_release(find_release(Folder(folder), layout_name))


def read_release(release: Release) -> Tables:
    """Reads a release that was found.

    Raises:
        UserError: a missing or empty file, a malformed row, or a rating outside 0.5 to 5 stars.
    """
    check_files(release)
    with release.opened() as files:
        return read_files(release.layout, files)


def read_files(layout: Layout, files: Mapping[str, Path]) -> Tables:
    """Reads a layout's files, given by the names that they have in it.

    Raises:
        UserError: an empty file, a malformed row, or a rating outside 0.5 to 5 stars.
    """
    for name in layout.files:
        if name in files and files[name].stat().st_size == 0:
            raise UserError(f"{files[name]} is empty; copy it again from the dataset's zip")
    ratings_file, movies_file = files[layout.ratings_file], files[layout.movies_file]
    ratings, notes = _all_ratings(layout, files)
    movies = clean_movies(layout.movies(movies_file), movies_file)
    described = {RAW_MOVIE: (movies_file, movies)}
    users = pd.DataFrame({RAW_USER: _distinct(ratings, RAW_USER)})
    if layout.users and layout.users_file and layout.users_file in files:
        about = _clean_users(layout.users(files[layout.users_file]))
        users = users.merge(about, on=RAW_USER, how="left")
        described[RAW_USER] = (files[layout.users_file], about)
    notes += misfits(ratings, ratings_file, described)
    ratings, repeated = drop_repeated(ratings)
    users = users.astype({RAW_USER: "int32"})
    return Tables(ratings, _complete_movies(movies, ratings), users, repeated, tuple(notes))


def _all_ratings(layout: Layout, files: Mapping[str, Path]) -> tuple[pa.Table, list[str]]:
    """The ratings of all their files, and sentences about what is suspicious in the files or missing."""
    there = [name for name in layout.ratings_files if name in files]
    missing = [name for name in layout.ratings_files if name not in files]
    tables, notes = [], []
    for name in there:
        tables.append(layout.ratings(files[name]))
        check_ratings(tables[-1], files[name])
        notes += cut_off(tables[-1], files[name])
    ratings = pa.concat_tables(tables)
    if missing:
        read = f"{len(there)} of {len(layout.ratings_files)} files of ratings are read"
        notes.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: {read}")
    return ratings, notes + days_only(ratings)


def check_files(release: Release) -> None:
    """Refuses a release without one of the files that it must have; its users may be missing."""
    layout = release.layout
    for name in (layout.ratings_file, layout.movies_file):
        if name not in release.files:
            raise UserError(
                f"{release.shown(name)} is missing; a {layout.title} folder has {layout.ratings_file} "
                f"and {layout.movies_file} (a file of ratings to add to a dataset's own is for --more-ratings)"
            )


def check_ratings(ratings: pa.Table, path: Path) -> None:
    """
    Raises:
        UserError: the file at `path` has no ratings, or one whose stars, ids or time cannot be.
    """
    if not len(ratings):
        raise UserError(f"{path} holds no ratings; copy it again from the dataset's zip")
    if bad := out_of_range(ratings):
        row, what, remedy = bad
        raise UserError(f"{path}: rating {row + 1} {what}; {remedy}")


def clean_movies(movies: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The movies as categories need them, whatever layout they are from; of equal rows the first.

    Raises:
        UserError: two movies have one id.
    """
    movies = movies.assign(
        **{
            TITLE: [clean_text(title) or f"Movie {movie}" for movie, title in zip(movies[RAW_MOVIE], movies[TITLE])],
            YEAR: [plausible_year(year) for year in movies[YEAR]],
            GENRES: [clean_genres(genres) for genres in movies[GENRES]],
        }
    )
    first: dict[int, tuple] = {}
    for movie, *rest in movies[list(MOVIES_COLUMNS)].itertuples(index=False):
        if first.setdefault(movie, tuple(rest)) != tuple(rest):
            titles = f"{shown(first[movie][0])} and {shown(rest[0])}"
            raise UserError(f"{path}: movie {movie} is there twice, as {titles}; remove one of the two")
    return movies.drop_duplicates(RAW_MOVIE)


def _clean_users(users: pd.DataFrame) -> pd.DataFrame:
    text = [name for name in (GENDER, OCCUPATION) if name in users]
    return users.assign(**{name: [clean_category(one) for one in users[name]] for name in text})


def drop_repeated(ratings: pa.Table) -> tuple[pa.Table, int]:
    """Keeps a user's last rating of a movie, by time and then file order: one pair in two splits would be a leak."""
    pair = ratings[RAW_USER].to_numpy().astype(np.int64) << 32 | ratings[RAW_MOVIE].to_numpy()
    if (pair[1:] > pair[:-1]).all() or len(np.unique(pair)) == len(pair):  # most releases are sorted
        return ratings, 0
    order = np.lexsort((np.arange(len(pair)), ratings[TIMESTAMP].to_numpy(), pair))
    last = np.append(np.diff(pair[order]) != 0, True)
    kept = np.sort(order[last])
    return ratings.take(pa.array(kept)), len(pair) - len(kept)


def _complete_movies(movies: pd.DataFrame, ratings: pa.Table) -> pd.DataFrame:
    """Adds the movies that only the ratings know, sorts by id."""
    unknown = np.setdiff1d(_distinct(ratings, RAW_MOVIE), movies[RAW_MOVIE].to_numpy())
    if len(unknown):
        extra: list[tuple[int, str, int, list[str]]] = [(movie, f"Movie {movie}", 0, []) for movie in unknown.tolist()]
        movies = pd.concat([movies, pd.DataFrame(extra, columns=list(MOVIES_COLUMNS))], ignore_index=True)
    movies = movies.sort_values(RAW_MOVIE, ignore_index=True)
    return movies.astype({RAW_MOVIE: "int32", YEAR: "int16"})


def _distinct(ratings: pa.Table, name: str) -> np.ndarray:
    """The values of a column, ascending; by hash, as sorting millions of rows takes seconds."""
    return np.sort(pc.unique(ratings[name]).to_numpy())
