"""The movies of a run: found by title, genre and year, and what each user of the dataset has rated."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

NO_GENRES = "(no genres listed)"
LONGEST_SEARCH = 300  # characters; what follows is not looked at
LIKED_ABOVE = 3.0  # stars: the label of the protocols
MOST_RATED, NEWEST, BY_TITLE = "Most rated", "Newest", "Title"
ORDERS = {MOST_RATED: ("ratings", False), NEWEST: ("year", False), BY_TITLE: ("folded", True)}


def folded(text: str) -> str:
    """Text as it is searched: in lower case, without accents.

    >>> folded("Amélie")
    'amelie'
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


class Catalogue:
    """The movies, each by its MovieLens id.

    Args:
        tables: folder of `movies.parquet` and `ratings.parquet`.

    Attributes:
        frame: a row per movie, indexed by id: `title`, `year` (0 where it is unknown), `genres` (a tuple), `ratings`
            (how many) and `folded` (the title as it is searched).
        genres: the names of all genres, sorted.
        years: the first and the last year.
        users: int32 [n], the ids of the dataset's users.
    """

    def __init__(self, tables: Path):
        self._ratings = tables / "ratings.parquet"
        frame = pd.read_parquet(tables / "movies.parquet").set_index("movieId")
        ratings = pd.read_parquet(self._ratings, columns=["userId", "movieId"])
        self.users = ratings["userId"].unique()
        counts = ratings["movieId"].value_counts()
        frame["ratings"] = counts.reindex(frame.index).fillna(0).astype("int64")
        frame["genres"] = [tuple(one for one in genres if one != NO_GENRES) for genres in frame["genres"]]
        frame["folded"] = [folded(title) for title in frame["title"]]
        self.frame = frame
        ids = frame.index.tolist()
        self._titles = dict(zip(ids, zip(frame["title"].tolist(), frame["year"].tolist())))
        self._genres: dict[int, tuple[str, ...]] = dict(zip(ids, frame["genres"].tolist()))
        self.genres = sorted({genre for genres in frame["genres"] for genre in genres})
        known = frame["year"][frame["year"] > 0]
        self.years = (int(known.min()), int(known.max())) if len(known) else (0, 0)
        self.stars_of = lru_cache(maxsize=512)(self._stars_of)

    def title(self, movie_id: int) -> str:
        """A movie's title and year, such as `Toy Story (1995)`; `movie 7` where the tables do not have it."""
        title, year = self._titles.get(movie_id, (f"movie {movie_id}", 0))
        return f"{title} ({year})" if year else title

    def genres_of(self, movie_id: int) -> tuple[str, ...]:
        """A movie's genres."""
        return self._genres.get(movie_id, ())

    def search(
        self,
        text: str = "",
        genres: Sequence[str] = (),
        years: tuple[int, int] | None = None,
        order: str = MOST_RATED,
    ) -> list[int]:
        """The ids of movies whose titles have every word of `text`, which have every one of `genres`.

        Args:
            years: first and last; None for all, also movies without a year.
            order: one of `ORDERS`.
        """
        frame = self.frame
        for word in dict.fromkeys(folded(text[:LONGEST_SEARCH]).split()):
            in_title = frame["folded"].str.contains(word, regex=False)
            frame = frame[in_title | (frame["year"].astype(str) == word.strip("()"))]
        if genres:
            frame = frame[[set(genres) <= set(found) for found in frame["genres"]]]
        if years is not None:
            frame = frame[frame["year"].between(*years)]
        column, ascending = ORDERS[order]
        return frame.sort_values(column, ascending=ascending, kind="stable").index.tolist()

    def _stars_of(self, user_id: int) -> dict[int, float]:
        """What a user of the dataset has rated: stars by movie id, the earliest rating first."""
        columns = ["movieId", "rating", "timestamp"]
        found = pd.read_parquet(self._ratings, columns=columns, filters=[("userId", "=", user_id)])
        found = found.sort_values("timestamp", kind="stable")
        return dict(zip(found["movieId"].tolist(), found["rating"].tolist()))


def liked(stars: dict[int, float]) -> list[int]:
    """The movies that were rated above `LIKED_ABOVE` stars, in the order that they were rated in."""
    return [movie_id for movie_id, given in stars.items() if given > LIKED_ABOVE]
