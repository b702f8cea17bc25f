"""What is suspicious about a release that can be read: files that do not fit each other, or too few rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.columns import RAW_MOVIE, TIMESTAMP
from workflows.sources.datasets import Dataset

DAY = 86_400  # seconds
UNKNOWN_SHARE = 0.1  # of the rated movies, or of the users, from which on the files are of different releases


def misfits(ratings: pa.Table, ratings_file: Path, described: dict[str, tuple[Path, pd.DataFrame]]) -> list[str]:
    """Sentences about files that do not seem to belong together.

    Args:
        ratings: as they are in their file.
        described: for `userId` and `movieId`, the file that describes them and what is in it.
    """
    found = []
    for column, (path, table) in described.items():
        rated = pc.unique(ratings[column]).to_numpy()
        unknown = len(np.setdiff1d(rated, table[column].to_numpy()))
        if unknown > UNKNOWN_SHARE * len(rated):
            what = "movies" if column == RAW_MOVIE else "users"
            found.append(
                f"{path} does not describe {unknown:,} of the {len(rated):,} {what} that {ratings_file.name} has; "
                "are both of the same release?"
            )
    return found


def cut_off(ratings: pa.Table, path: Path) -> list[str]:
    """A sentence about a last row that may have been cut off in its time: what is left is still a number, but less."""
    times = ratings[TIMESTAMP].to_numpy()
    if len(times) < 2 or times[-1] >= times[:-1].min() or _ends_a_line(path):
        return []
    return [
        f"{path} seems to be cut off: its last line does not end, and its time, {times[-1]}, is before all others; "
        "copy the file again if there should be more"
    ]


def days_only(ratings: pa.Table) -> list[str]:
    """A sentence where all times are midnight: what came first on a day is then not known."""
    times = ratings[TIMESTAMP].to_numpy()
    if times[0] % DAY or times.min() == times.max() or (times % DAY).any():
        return []
    return [
        "times are whole days: of a user's ratings of one day, the later in the file counts as the later one "
        "(leave-one-out holds it out), and none of them is in another one's history"
    ]


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) in (b"\n", b"\r")


def deviations(dataset: Dataset, ratings: int, users: int, movies: int) -> list[str]:
    """A sentence where a release does not have the size that its publisher says.

    Args:
        ratings: how many there are, repeated ones too.
        users, movies: how many.
    """
    published = {"ratings": dataset.ratings, "users": dataset.users, "movies": dataset.movies}
    here = {"ratings": ratings, "users": users, "movies": movies}
    differing = [what for what, number in published.items() if number and number != here[what]]
    if not differing:
        return []
    whole = "not the whole release" if any(here[what] < published[what] for what in differing) else "another release"
    numbers = ", ".join(f"{here[what]:,} of {published[what]:,} {what}" for what in differing)
    return [f"this is {whole} of {dataset.name} as it was published: {numbers}"]
