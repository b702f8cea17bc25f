"""How what was judged is cut into slices. To add one, append it to `SLICINGS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from core.columns import GENRES, MOVIE_ID, RAW_MOVIE, RAW_USER, TIMESTAMP, USER_ID, YEAR
from models.evaluation.classes import Class, equal_counts
from report.calculations.classes import between, by_name
from report.files import RunFiles
from report.style import SECONDS_A_DAY

SINCE_FIRST = (("1", 1), ("2\u20137", 7), ("8\u201330", 30), ("31\u2013365", 365), ("over 365", np.inf))
AGES = (("0\u20131", 2), ("2\u20135", 6), ("6\u201310", 11), ("11\u201320", 21), ("over 20", np.inf))
NO_GENRE = "(none listed)"


@dataclass(frozen=True)
class Slicing:
    """One way to cut.

    Attributes:
        title: of its panel.
        classes: a run's files and the judged rows (`user_id`, `movie_id`, `timestamp`) to the classes of rows.
    """

    title: str
    classes: Callable[[RunFiles, pd.DataFrame], list[Class]]


def with_times(files: RunFiles, table: pd.DataFrame) -> pd.DataFrame:
    """`user_id`, `movie_id` and `timestamp` of judged rows; where the time was not kept, that of the rating.

    Args:
        table: as it was kept.
    """
    if TIMESTAMP in table or table.empty:
        return table.reindex(columns=[USER_ID, MOVIE_ID, TIMESTAMP]).astype(np.int64)
    asked = _key(table[USER_ID], table[MOVIE_ID])
    order = np.argsort(asked)
    key = _key(files.ratings[RAW_USER], files.ratings[RAW_MOVIE])
    place = np.minimum(np.searchsorted(asked[order], key), len(asked) - 1)
    found = asked[order][place] == key
    time = np.zeros(len(asked), np.int64)
    time[order[place[found]]] = files.ratings[TIMESTAMP].to_numpy()[found]
    return table[[USER_ID, MOVIE_ID]].assign(**{TIMESTAMP: time})


def _key(user: pd.Series, movie: pd.Series) -> np.ndarray:
    return user.to_numpy(np.int64) << 32 | movie.to_numpy(np.int64)


@lru_cache(maxsize=16)
def ratings_of(files: RunFiles, column: str) -> pd.Series:
    """How many ratings each user or movie has in the dataset, by id."""
    ids, counts = np.unique(files.ratings[column].to_numpy(), return_counts=True)
    return pd.Series(counts, index=ids)


def _others(column: str, of: str) -> Callable[[RunFiles, pd.DataFrame], list[Class]]:
    """Classes by how many other ratings the row's user or movie has."""

    def classes(files: RunFiles, asked: pd.DataFrame) -> list[Class]:
        return equal_counts(ratings_of(files, column).reindex(asked[of]).to_numpy() - 1)

    return classes


def _since_first(files: RunFiles, asked: pd.DataFrame) -> list[Class]:
    first = files.ratings.groupby(RAW_USER)[TIMESTAMP].min().reindex(asked[USER_ID]).to_numpy()
    return between((asked[TIMESTAMP].to_numpy() - first) / SECONDS_A_DAY, SINCE_FIRST)


def _movies(files: RunFiles, asked: pd.DataFrame, column: str) -> pd.Series:
    return files.movies.set_index(RAW_MOVIE)[column].reindex(asked[MOVIE_ID])


def _age(files: RunFiles, asked: pd.DataFrame) -> list[Class]:
    released = _movies(files, asked, YEAR).to_numpy(np.float64)
    rated = asked[TIMESTAMP].to_numpy().astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
    return between(np.where(released > 0, rated - released, np.nan), AGES)


def _genres(files: RunFiles, asked: pd.DataFrame) -> list[Class]:
    return by_name(_movies(files, asked, GENRES).to_list(), NO_GENRE)


SLICINGS = [
    Slicing("User's other ratings", _others(RAW_USER, USER_ID)),
    Slicing("Days since joining", _since_first),
    Slicing("Movie's other ratings", _others(RAW_MOVIE, MOVIE_ID)),
    Slicing("Movie's age, years", _age),
    Slicing("Movie's genre", _genres),
]
