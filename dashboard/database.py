"""The SQLite file of the page: its schema, its errors in one line, and a connection for each operation.

Imports the standard library only.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

APPLICATION = 0x4D51_5045  # "MQPE", in the file's header
VERSION = 1  # of the schema
TIMEOUT = 10.0  # seconds that an operation waits for another process's
LARGEST_ID = 2**31 - 1  # ids are int32 in the canonical tables
LATEST = 4_102_444_800  # 2100-01-01 UTC, as in the reader of ratings
LOWEST_STARS, HIGHEST_STARS = 0.5, 5.0
SCHEMA = (
    "CREATE TABLE about (dataset TEXT NOT NULL)",
    f"""CREATE TABLE people (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        user_id INTEGER CHECK (user_id BETWEEN 0 AND {LARGEST_ID}),
        exported_id INTEGER UNIQUE CHECK (exported_id BETWEEN 0 AND {LARGEST_ID}),
        created INTEGER NOT NULL
    )""",
    f"""CREATE TABLE ratings (
        person INTEGER NOT NULL REFERENCES people (id),
        movie_id INTEGER NOT NULL CHECK (movie_id BETWEEN 0 AND {LARGEST_ID}),
        stars REAL NOT NULL CHECK (stars BETWEEN {LOWEST_STARS} AND {HIGHEST_STARS} AND stars * 2 = round(stars * 2)),
        timestamp REAL NOT NULL CHECK (timestamp BETWEEN 0 AND {LATEST}),
        PRIMARY KEY (person, movie_id)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE thumbs (
        person INTEGER NOT NULL REFERENCES people (id),
        movie_id INTEGER NOT NULL CHECK (movie_id BETWEEN 0 AND {LARGEST_ID}),
        up INTEGER NOT NULL CHECK (up IN (0, 1)),
        timestamp REAL NOT NULL CHECK (timestamp BETWEEN 0 AND {LATEST}),
        PRIMARY KEY (person, movie_id)
    ) WITHOUT ROWID""",
    """CREATE TABLE shown (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person INTEGER REFERENCES people (id),
        model TEXT NOT NULL,
        version TEXT NOT NULL,
        movie_ids TEXT NOT NULL,
        scores TEXT NOT NULL,
        time REAL NOT NULL,
        milliseconds REAL NOT NULL
    )""",
)


class StoreError(Exception):
    """The file cannot be used, or a person is not in it: one line that says what was wrong, where, and what to do."""


class Database:
    """The file. Each operation has a connection of its own, and is on the disk when it ends.

    Everything raises `StoreError` where the file cannot be read or written, is not such a file, or stays locked by
    another process for longer than `TIMEOUT`.
    """

    def __init__(self, path: Path, dataset: str) -> None:
        """Opens the file, which is made where it is not there, for its owner alone (mode 0600).

        Args:
            dataset: whose movie ids the ratings have, such as `ml-100k`.

        Raises:
            StoreError: it cannot be opened or made, or has another schema or dataset.
        """
        self.path = path
        with self._errors():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._prepare(dataset)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation that reads one state of the file."""
        with self._errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation that writes all or nothing; it waits for its turn before it reads."""
        with self._errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?mode=rw"  # a file that was removed is not made again
        return sqlite3.connect(address, uri=True, timeout=TIMEOUT, isolation_level=None)

    def _prepare(self, dataset: str) -> None:
        """Makes the tables of an empty file, and checks those of another."""
        with self._errors(), closing(self._connect()) as connection:
            if _is_empty(connection):
                connection.execute("BEGIN IMMEDIATE")
                if _is_empty(connection):  # and no other process was faster
                    for statement in SCHEMA:
                        connection.execute(statement)
                    connection.execute("INSERT INTO about VALUES (?)", (dataset,))
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            self._check(connection, dataset)
            self._use_wal(connection)

    def _check(self, connection: sqlite3.Connection, dataset: str) -> None:
        if _pragma(connection, "application_id") != APPLICATION:
            raise StoreError(f"{self.path} is another program's database; give another file with --database")
        version = _pragma(connection, "user_version")
        if version != VERSION:
            raise StoreError(
                f"{self.path} has version {version} of the tables, and this Marquee reads version {VERSION}; "
                "use the Marquee that wrote it, or give another file with --database"
            )
        found = connection.execute("SELECT dataset FROM about").fetchone()[0]
        if found != dataset:
            raise StoreError(
                f"{self.path} holds ratings of {found}, not of {dataset}; give another file with --database"
            )

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """From now on readers do not wait for writers. SQLite itself does not wait with this change, so this does."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                mode = _pragma(connection, "journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(f"{self.path} is on a file system without shared memory; put it on a local disk")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite and of the system, in one line."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(f"{self.path} cannot be opened: {reason}; give another file with --database") from error
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} {_problem(str(error))}") from error


def _problem(message: str) -> str:
    """What SQLite said, in words for the user, and what to do."""
    if "locked" in message:
        return f"was locked by another process for more than {TIMEOUT:g} s; try again"
    if "not a database" in message:
        return "is not an SQLite database; give another file with --database"
    if "malformed" in message:
        return "is damaged; restore a copy, or give another file with --database"
    if "full" in message:
        return f"cannot be written: {message}; make room there"
    return f"cannot be used: {message}; check the file and its folder, which must be writable"


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0


def _pragma(connection: sqlite3.Connection, text: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {text}").fetchone()[0]
    return value
