"""The people who use the page, their ratings and thumbs, and what was recommended to them, in one SQLite file.

    store = Store(Path("runs/ml-100k/people.sqlite3"), "ml-100k")
    person = store.new_person()
    store.rate(person.key, movie_id=50, stars=4.5)

Any number of threads and processes may use one file at once, and one that is killed loses nothing that was returned.
Movie and user ids are MovieLens' own. Imports the standard library only.
"""

import json
import operator
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from dashboard.database import HIGHEST_STARS, LARGEST_ID, LATEST, LOWEST_STARS, Database, StoreError

SHOWN_KEPT = 100_000  # recommendations; older ones are deleted
# A rating by the id that it is exported under. Of several people who are one user, the latest rating of a movie counts.
RATINGS_BY_USER = """
SELECT user_id, movie_id, stars, timestamp FROM (
    SELECT coalesce(people.user_id, people.exported_id) AS user_id, movie_id, stars,
        CAST(timestamp AS INTEGER) AS timestamp,
        row_number() OVER (
            PARTITION BY coalesce(people.user_id, people.exported_id), movie_id
            ORDER BY ratings.timestamp DESC, person DESC
        ) AS place
    FROM ratings JOIN people ON people.id = ratings.person
) WHERE place = 1 ORDER BY user_id, movie_id
"""


@dataclass(frozen=True)
class Person:
    """Someone who uses the page.

    Attributes:
        key: what the page knows the person by; it cannot be guessed.
        user_id: of the dataset's user that the person is; None for a new person.
        exported_id: the user id that a new person has had since the first export with a rating of theirs, which models
            trained after it know; None before, and for a user of the dataset.
        created: Unix time in seconds.
    """

    key: str
    user_id: int | None
    exported_id: int | None
    created: int


@dataclass(frozen=True)
class Rating:
    """A movie's stars, 0.5 to 5 in halves, and when they were given: Unix time in seconds, with their fractions."""

    movie_id: int
    stars: float
    timestamp: float


@dataclass(frozen=True)
class Thumb:
    """A thumb up or down for a movie, and when it was given: Unix time in seconds, with their fractions."""

    movie_id: int
    up: bool
    timestamp: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One answer of Triton that was shown.

    Attributes:
        key: of the person; None where it was shown to someone who is not in the store.
        model: the network that was asked.
        version: of the repository that answered.
        movie_ids, scores: of the recommended movies, the best first; as many of one as of the other.
        time: when it was asked, Unix time in seconds.
        milliseconds: from the question to the answer.
    """

    key: str | None
    model: str
    version: str
    movie_ids: tuple[int, ...]
    scores: tuple[float, ...]
    time: float
    milliseconds: float


@dataclass(frozen=True)
class Export:
    """Every person's ratings, under user ids.

    Attributes:
        rows: user id, movie id, stars and Unix time in seconds, sorted by the two ids; each pair of them is there once.
        new_users: how many of the user ids are not the dataset's.
        moved: how many people have another id than in the last export, as the dataset has a user of that id now.
    """

    rows: tuple[tuple[int, int, float, int], ...]
    new_users: int
    moved: int


class Store:
    """The people, ratings, thumbs and recommendations in one file.

    Every operation raises `StoreError` where the file cannot be read or written, or stays locked by another process for
    longer than ten seconds.
    """

    def __init__(self, path: Path, dataset: str) -> None:
        """Opens the file, which is made where it is not there, for its owner alone (mode 0600).

        Args:
            dataset: whose movie ids the ratings have, such as `ml-100k`.

        Raises:
            StoreError: it cannot be opened or made, or has another schema or dataset.
        """
        self._database = Database(path, dataset)

    # -- people --------------------------------------------------------------------------------------------------------

    def new_person(self, user_id: int | None = None) -> Person:
        """Adds a person: a new one, or one who is a user of the dataset. Several may be the same user."""
        person = Person(secrets.token_urlsafe(16), None if user_id is None else _id(user_id), None, int(time.time()))
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO people (key, user_id, created) VALUES (?, ?, ?)",
                (person.key, person.user_id, person.created),
            )
        return person

    def person(self, key: str) -> Person | None:
        """The person with a key; None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT key, user_id, exported_id, created FROM people WHERE key = ?", (key,)
            ).fetchone()
        return Person(*row) if row else None

    # -- ratings and thumbs --------------------------------------------------------------------------------------------

    def rate(self, key: str, movie_id: int, stars: float, timestamp: float | None = None) -> None:
        """Gives a movie stars, in the place of those that the person gave it before.

        Args:
            stars: 0.5 to 5, in halves.
            timestamp: Unix time in seconds; None for now.

        Raises:
            ValueError: stars, id or time out of range.
            StoreError: no person has this key.
        """
        if not (LOWEST_STARS <= stars <= HIGHEST_STARS and float(stars * 2).is_integer()):
            raise ValueError(f"stars go from {LOWEST_STARS} to {HIGHEST_STARS} in halves, not {stars!r}")
        self._put("ratings", "stars", key, movie_id, float(stars), timestamp)

    def unrate(self, key: str, movie_id: int) -> bool:
        """Removes a person's rating of a movie. Returns whether there was one."""
        return self._remove("ratings", key, movie_id)

    def ratings(self, key: str) -> list[Rating]:
        """A person's ratings, the earliest first."""
        return [Rating(*row) for row in self._rows("ratings", "stars", key)]

    def thumb(self, key: str, movie_id: int, up: bool, timestamp: float | None = None) -> None:
        """Gives a movie a thumb up or down, in the place of the one that the person gave it before.

        Raises:
            ValueError, StoreError: as of `rate`.
        """
        self._put("thumbs", "up", key, movie_id, int(up), timestamp)

    def unthumb(self, key: str, movie_id: int) -> bool:
        """Removes a person's thumb for a movie. Returns whether there was one."""
        return self._remove("thumbs", key, movie_id)

    def thumbs(self, key: str) -> list[Thumb]:
        """A person's thumbs, the earliest first."""
        return [Thumb(movie_id, bool(up), timestamp) for movie_id, up, timestamp in self._rows("thumbs", "up", key)]

    # -- recommendations -----------------------------------------------------------------------------------------------

    def record(self, shown: Shown) -> None:
        """Keeps an answer that was shown. The latest `SHOWN_KEPT` are kept.

        Raises:
            ValueError: more movies than scores, or fewer.
            StoreError: no person has this key.
        """
        if len(shown.movie_ids) != len(shown.scores):
            raise ValueError(f"{len(shown.movie_ids)} movies and {len(shown.scores)} scores")
        movie_ids = json.dumps([_id(one) for one in shown.movie_ids])
        scores = json.dumps([float(one) for one in shown.scores])
        with self._database.writing() as connection:
            person = None if shown.key is None else self._person_id(connection, shown.key)
            row = (person, shown.model, str(shown.version), movie_ids, scores)
            last = connection.execute(
                "INSERT INTO shown (person, model, version, movie_ids, scores, time, milliseconds) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, float(shown.time), float(shown.milliseconds)),
            ).lastrowid
            connection.execute("DELETE FROM shown WHERE id <= ?", ((last or 0) - SHOWN_KEPT,))

    def shown(self, limit: int = 100) -> list[Shown]:
        """The answers that were shown last, to anyone, the latest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key, model, version, movie_ids, scores, time, milliseconds "
                "FROM shown LEFT JOIN people ON people.id = shown.person ORDER BY shown.id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Shown(
                key=key,
                model=model,
                version=version,
                movie_ids=tuple(json.loads(movie_ids)),
                scores=tuple(json.loads(scores)),
                time=asked,
                milliseconds=milliseconds,
            )
            for key, model, version, movie_ids, scores, asked, milliseconds in rows
        ]

    # -- export --------------------------------------------------------------------------------------------------------

    def export(self, largest_user: int) -> Export:
        """Every rating under a user id: of the dataset's user, or a new one, which a new person keeps from then on.

        Args:
            largest_user: the dataset's largest user id, without people of earlier exports; new ids are above it.

        Raises:
            StoreError: no id is left for a new person.
        """
        with self._database.writing() as connection:
            moved = connection.execute(
                "UPDATE people SET exported_id = NULL WHERE exported_id <= ?", (largest_user,)
            ).rowcount
            last = connection.execute(
                "SELECT max(?, coalesce(max(user_id), 0), coalesce(max(exported_id), 0)) FROM people", (largest_user,)
            ).fetchone()[0]
            waiting = connection.execute(
                "SELECT id FROM people WHERE user_id IS NULL AND exported_id IS NULL "
                "AND id IN (SELECT person FROM ratings) ORDER BY id"
            ).fetchall()
            if last + len(waiting) > LARGEST_ID:
                raise StoreError(
                    f"{self._database.path}: no user id up to {LARGEST_ID} is left for a new person; the dataset's "
                    f"largest is {largest_user}"
                )
            connection.executemany(
                "UPDATE people SET exported_id = ? WHERE id = ?",
                [(exported_id, person) for exported_id, (person,) in enumerate(waiting, last + 1)],
            )
            rows = tuple(connection.execute(RATINGS_BY_USER))
        new_users = len({user_id for user_id, *_ in rows if user_id > largest_user})
        return Export(rows, new_users, moved)

    # -- one operation -------------------------------------------------------------------------------------------------

    def _put(self, table: str, column: str, key: str, movie_id: int, value: float, timestamp: float | None) -> None:
        """Inserts a person's row about a movie, or changes the one that is there."""
        movie_id, when = _id(movie_id), time.time() if timestamp is None else float(timestamp)
        if not 0 <= when <= LATEST:
            raise ValueError(f"a time in seconds goes from 0 to {LATEST}, not {when}")
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT INTO {table} (person, movie_id, {column}, timestamp) VALUES (?, ?, ?, ?) "
                f"ON CONFLICT (person, movie_id) DO UPDATE SET {column} = excluded.{column}, "
                "timestamp = excluded.timestamp",
                (self._person_id(connection, key), movie_id, value, when),
            )

    def _remove(self, table: str, key: str, movie_id: int) -> bool:
        with self._database.writing() as connection:
            person = self._person_id(connection, key)
            found = connection.execute(
                f"DELETE FROM {table} WHERE person = ? AND movie_id = ?", (person, _id(movie_id))
            )
            return found.rowcount > 0

    def _rows(self, table: str, column: str, key: str) -> list[tuple]:
        with self._database.reading() as connection:
            return connection.execute(
                f"SELECT movie_id, {column}, timestamp FROM {table} WHERE person = ? ORDER BY timestamp, movie_id",
                (self._person_id(connection, key),),
            ).fetchall()

    def _person_id(self, connection: sqlite3.Connection, key: str) -> int:
        row = connection.execute("SELECT id FROM people WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise StoreError(f"{self._database.path} has no person with this key; begin as a new person")
        return int(row[0])


def _id(number: int) -> int:
    """A user's or movie's id, of any integer type.

    Raises:
        ValueError: it is out of range.
    """
    number = operator.index(number)
    if not 0 <= number <= LARGEST_ID:
        raise ValueError(f"an id goes from 0 to {LARGEST_ID}, not {number}")
    return number
