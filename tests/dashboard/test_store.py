"""The page's store: what it keeps and gives back, and that it survives whatever happens to its file and its writers."""

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import stat
import string
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import database
from dashboard.store import SHOWN_KEPT, Rating, Shown, Store, StoreError, Thumb
from tests.names import HANG_SECONDS

DATASET = "ml-100k"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "people [1].sqlite3"


@pytest.fixture
def store(path) -> Store:
    return Store(path, DATASET)


def answer(**changes) -> Shown:
    given = {"key": None, "model": "dlrm", "version": "3", "movie_ids": (50, 1), "scores": (0.75, 0.5)}
    return Shown(**{**given, "time": 1_700_000_000.25, "milliseconds": 3.5, **changes})


def refusal(act: Callable[[], object]) -> str:
    """The one line of the error."""
    with pytest.raises(StoreError) as error:
        act()
    line = str(error.value)
    assert "\n" not in line
    assert "; " in line  # what to do
    return line


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- people ------------------------------------------------------------------------------------------------------------


def test_people_are_found_by_their_keys_in_another_process_s_store(store, path):
    new, user = store.new_person(), store.new_person(42)
    other = Store(path, DATASET)
    assert other.person(new.key) == new
    assert other.person(user.key) == user
    assert (new.user_id, user.user_id) == (None, 42)
    assert abs(new.created - time.time()) < HANG_SECONDS
    assert other.person("") is None
    assert other.person("' OR 1=1 --") is None


def test_keys_cannot_be_guessed(store):
    """128 bits from the system's random source each, in characters of an address."""
    keys = {store.new_person(1).key for _ in range(20)}
    assert len(keys) == 20
    assert all(len(key) == 22 and set(key) <= {*string.ascii_letters, *string.digits, *"-_"} for key in keys)
    assert len({key[:4] for key in keys}) > 10


def test_one_person_s_ratings_are_not_another_s(store):
    one, other = store.new_person(42), store.new_person(42)
    store.rate(one.key, 50, 4)
    store.thumb(one.key, 50, True)
    assert store.ratings(other.key) == store.thumbs(other.key) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.rate("an unknown key", 1, 3),
        lambda store: store.unrate("an unknown key", 1),
        lambda store: store.ratings("an unknown key"),
        lambda store: store.thumb("an unknown key", 1, True),
        lambda store: store.unthumb("an unknown key", 1),
        lambda store: store.thumbs("an unknown key"),
        lambda store: store.record(answer(key="an unknown key")),
    ],
)
def test_an_unknown_key_is_refused(store, act):
    line = refusal(lambda: act(store))
    assert "no person with this key" in line
    assert "an unknown key" not in line


# -- ratings and thumbs ------------------------------------------------------------------------------------------------


def test_a_rating_is_stars_a_movie_and_when(store):
    key = store.new_person().key
    before = int(time.time())
    store.rate(key, 50, 4.5)
    store.rate(key, 7, 0.5, 1_000_000_000)
    first, last = store.ratings(key)
    assert first == Rating(7, 0.5, 1_000_000_000)
    assert (last.movie_id, last.stars) == (50, 4.5)
    assert before <= last.timestamp <= time.time()
    assert type(last.movie_id) is int


def test_what_was_said_within_one_second_keeps_its_order_and_is_exported_in_whole_seconds(store):
    first, second = (store.new_person(user_id=9).key for _ in range(2))
    store.rate(first, 50, 4.0, 1000.25)
    store.rate(first, 7, 3.0, 1000.5)
    store.rate(second, 50, 2.0, 1000.75)
    assert [one.movie_id for one in store.ratings(first)] == [50, 7]
    assert store.export(100).rows == ((9, 7, 3.0, 1000), (9, 50, 2.0, 1000))
    for number in range(5):  # the clock's own
        store.thumb(first, 9 - number, True)
    assert [one.movie_id for one in store.thumbs(first)] == [9, 8, 7, 6, 5]


def test_numbers_of_numpy_and_pandas_are_taken(store):
    key = store.new_person(np.int32(5)).key
    store.rate(key, np.int64(50), np.float32(3.5), np.int64(9))
    store.thumb(key, np.int16(50), np.bool_(True), 9)
    store.record(answer(key=key, movie_ids=tuple(np.arange(2)), scores=tuple(np.float32([0.5, 0.25]))))
    assert store.ratings(key) == [Rating(50, 3.5, 9)]
    assert store.thumbs(key) == [Thumb(50, True, 9)]
    assert store.shown()[0].scores == (0.5, 0.25)


@pytest.mark.parametrize("stars", [0, 0.25, 3.7, 5.5, -1, float("nan"), float("inf")])
def test_stars_go_from_a_half_to_five_in_halves(store, stars):
    key = store.new_person().key
    with pytest.raises(ValueError, match="halves"):
        store.rate(key, 1, stars)
    assert store.ratings(key) == []


@pytest.mark.parametrize("movie", [-1, 2**31])
def test_ids_fit_the_tables(store, movie):
    key = store.new_person().key
    with pytest.raises(ValueError, match="id"):
        store.rate(key, movie, 3)
    with pytest.raises(ValueError, match="id"):
        store.new_person(movie)
    with pytest.raises(ValueError, match="time"):
        store.rate(key, 1, 3, movie * 10**10)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["rate", "unrate", "thumb", "unthumb"]),
        st.integers(0, 1),  # person
        st.integers(1, 3),  # movie
        st.integers(1, 10),  # half stars; the thumb is up where it is even
        st.integers(0, 4),  # time
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("shared") / "people.sqlite3", DATASET)


@settings(max_examples=20, deadline=None)
@given(ACTS)
def test_the_last_of_a_person_and_a_movie_counts_as_in_dictionaries(shared, acts):
    keys = [shared.new_person().key for _ in range(2)]
    ratings: list[dict[int, Rating]] = [{}, {}]
    thumbs: list[dict[int, Thumb]] = [{}, {}]
    for act, person, movie, halves, when in acts:
        if act == "rate":
            shared.rate(keys[person], movie, halves / 2, when)
            ratings[person][movie] = Rating(movie, halves / 2, when)
        elif act == "thumb":
            shared.thumb(keys[person], movie, halves % 2 == 0, when)
            thumbs[person][movie] = Thumb(movie, halves % 2 == 0, when)
        elif act == "unrate":
            assert shared.unrate(keys[person], movie) == (ratings[person].pop(movie, None) is not None)
        else:
            assert shared.unthumb(keys[person], movie) == (thumbs[person].pop(movie, None) is not None)
    for key, own, up in zip(keys, ratings, thumbs):
        assert shared.ratings(key) == sorted(own.values(), key=lambda one: (one.timestamp, one.movie_id))
        assert shared.thumbs(key) == sorted(up.values(), key=lambda one: (one.timestamp, one.movie_id))


# -- recommendations ---------------------------------------------------------------------------------------------------


def test_what_was_shown_is_given_back_the_latest_first(store):
    key = store.new_person().key
    first, second = answer(key=key, model="ncf"), answer(milliseconds=12.0, version="4", movie_ids=(), scores=())
    store.record(first)
    store.record(second)
    assert store.shown() == [second, first]
    assert store.shown(limit=1) == [second]


def test_as_many_movies_as_scores_are_shown(store):
    with pytest.raises(ValueError, match="2 movies and 1 scores"):
        store.record(answer(scores=(0.5,)))


def test_what_was_shown_long_ago_is_deleted(store, path, monkeypatch):
    assert SHOWN_KEPT > 1000
    monkeypatch.setattr("dashboard.store.SHOWN_KEPT", 3)
    for number in range(5):
        store.record(answer(version=str(number)))
    assert [one.version for one in store.shown()] == ["4", "3", "2"]


# -- export ------------------------------------------------------------------------------------------------------------


def test_new_people_have_ids_above_the_dataset_s_and_keep_them(store):
    user, one, other, silent = store.new_person(7), store.new_person(), store.new_person(), store.new_person()
    for person in (user, one, other):
        store.rate(person.key, 50, 4, 10)
    assert store.export(943).rows == ((7, 50, 4.0, 10), (944, 50, 4.0, 10), (945, 50, 4.0, 10))
    assert [store.person(each.key).exported_id for each in (user, one, other, silent)] == [None, 944, 945, None]
    store.rate(silent.key, 1, 5, 20)
    store.unrate(one.key, 50)
    later = store.export(943)
    assert later.rows == ((7, 50, 4.0, 10), (945, 50, 4.0, 10), (946, 1, 5.0, 20))
    assert (later.new_users, later.moved) == (2, 0)


def test_a_dataset_that_has_grown_moves_the_people_whose_ids_it_has_now(store):
    people = [store.new_person() for _ in range(3)]
    for person in people:
        store.rate(person.key, 50, 4, 10)
    assert [row[0] for row in store.export(943).rows] == [944, 945, 946]
    grown = store.export(945)
    assert [row[0] for row in grown.rows] == [946, 947, 948]
    assert grown.moved == 2
    assert store.export(945) == type(grown)(grown.rows, 3, 0)


def test_a_user_id_that_someone_claims_is_not_given_to_another(store):
    store.rate(store.new_person(944).key, 1, 3, 10)
    store.rate(store.new_person().key, 2, 3, 10)
    assert [row[0] for row in store.export(943).rows] == [944, 945]


def test_no_id_is_left_above_the_largest(store):
    store.rate(store.new_person().key, 2, 3, 10)
    assert "no user id" in refusal(lambda: store.export(2**31 - 1))
    assert store.export(2**31 - 2).rows == ((2**31 - 1, 2, 3.0, 10),)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 10), st.integers(0, 3)), max_size=6))
def test_of_several_people_who_are_one_user_the_latest_rating_counts(tmp_path_factory, acts):
    store = Store(tmp_path_factory.mktemp("export") / "people.sqlite3", DATASET)
    people = [store.new_person(user) for user in (7, 7, None)]
    own: dict[tuple[int, int], tuple[int, int, float]] = {}
    for person, movie, halves, when in acts:
        store.rate(people[person].key, movie, halves / 2, when)
        own[person, movie] = (when, person, halves / 2)
    expected: dict[tuple[int, int], tuple[int, int, float]] = {}
    for (person, movie), rating in own.items():
        pair = (944 if person == 2 else 7, movie)
        expected[pair] = max(rating, expected.get(pair, rating))
    rows = [(user, movie, stars, when) for (user, movie), (when, _, stars) in sorted(expected.items())]
    assert list(store.export(943).rows) == rows


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_is_its_owner_s_alone(path):
    before = os.umask(0)
    try:
        store = Store(path, DATASET)
        key = store.new_person().key
        with closing(sqlite3.connect(path)) as connection:  # keeps the files beside it
            connection.execute("SELECT * FROM people").fetchall()
            store.rate(key, 1, 3)
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


def changed(path: Path, statement: str) -> None:
    Store(path, DATASET)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def another_program_s(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def damaged(path: Path) -> None:
    Store(path, DATASET)
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(random.Random(0).randbytes(len(content) - 100)))


FILES = {
    "text": (lambda path: path.write_text("userId,movieId,rating,timestamp\n"), "not an SQLite database"),
    "a page of text": (lambda path: path.write_bytes(b"x" * 5000), "not an SQLite database"),
    "another program's": (another_program_s, "another program's"),
    "a later version": (lambda path: changed(path, "PRAGMA user_version = 99"), "version 99 of the tables"),
    "another dataset": (lambda path: Store(path, "ml-1m"), "ratings of ml-1m, not of ml-100k"),
    "a damaged one": (damaged, "damaged"),
    "a folder": (lambda path: path.mkdir(), "is a directory"),
    "a link to nowhere": (lambda path: path.symlink_to("none/none"), "no such file"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_the_store_s_is_refused_in_one_line(path, kind):
    make, words = FILES[kind]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    line = refusal(lambda: Store(path, DATASET))
    assert line.startswith(str(path))
    assert words in line
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_missing_folder_is_refused_in_one_line(tmp_path):
    assert "no such file or directory" in refusal(lambda: Store(tmp_path / "none" / "people.sqlite3", DATASET))


def test_a_file_that_was_removed_is_not_made_again(store, path):
    path.unlink()
    assert str(path) in refusal(store.new_person)
    assert not path.exists()


def test_a_lock_that_stays_is_said_and_one_that_goes_is_waited_for(store, path, monkeypatch):
    key = store.new_person().key
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(database, "TIMEOUT", 0.2)
        assert "locked by another process for more than 0.2 s" in refusal(lambda: store.rate(key, 1, 3))
        assert store.ratings(key) == []  # readers do not wait
        monkeypatch.setattr(database, "TIMEOUT", HANG_SECONDS)
        timer = threading.Timer(0.3, connection.execute, ("ROLLBACK",))
        timer.start()
        store.rate(key, 1, 3)
        timer.join()
    assert len(store.ratings(key)) == 1


def test_an_operation_waits_ten_seconds():
    assert database.TIMEOUT == 10


def in_child(act: Callable[[], None]) -> None:
    """Runs a function in a process of its own, and its assertions count."""
    child = FORK.Process(target=act)
    child.start()
    child.join(HANG_SECONDS)
    assert child.exitcode == 0


def test_a_full_disk_is_one_line_and_loses_nothing(store, path):
    key = store.new_person().key

    store.rate(key, 1, 3)
    long = answer(movie_ids=(2**31 - 1,) * 1000, scores=(0.5,) * 1000)

    def fill() -> None:
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        written, said = 0, ""
        while not said and written < 100:
            try:
                store.record(long)
                written += 1
            except StoreError as error:
                said = str(error)
        assert "\n" not in said
        assert said.startswith(str(path))
        assert store.shown() == [long] * written
        assert len(store.ratings(key)) == 1

    in_child(fill)
    assert is_whole(path)
    kept = store.shown()
    store.record(long)
    assert store.shown() == [long, *kept]


def test_a_file_that_may_not_be_written_is_one_line():
    """In a process without a root user's rights, to whom every file is writable."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)

        def act() -> None:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            path = Path(folder) / "people.sqlite3"
            store = Store(path, DATASET)
            key = store.new_person().key
            path.chmod(0o400)
            assert "writable" in refusal(lambda: store.rate(key, 1, 3))
            assert "permission denied" in refusal(lambda: Store(path, DATASET))

        in_child(act)


# -- many writers, and killed ones -------------------------------------------------------------------------------------


def test_eight_processes_that_begin_and_write_at_once_lose_nothing(path):
    start = FORK.Event()
    keys = FORK.SimpleQueue()

    def write(number: int) -> None:
        start.wait(HANG_SECONDS)
        store = Store(path, DATASET)  # makes the file, or finds it half made
        person = store.new_person(number)
        keys.put((number, person.key))
        for movie in range(8):
            store.rate(person.key, movie, 0.5 + number / 2, movie)
            store.record(answer(key=person.key, version=f"{number}-{movie}"))

    children = [FORK.Process(target=write, args=(number,)) for number in range(8)]
    for child in children:
        child.start()
    start.set()
    people = dict(keys.get() for _ in children)
    for child in children:
        child.join(HANG_SECONDS)
    assert [child.exitcode for child in children] == [0] * 8
    store = Store(path, DATASET)
    for number, key in people.items():
        assert store.ratings(key) == [Rating(movie, 0.5 + number / 2, movie) for movie in range(8)]
    assert {one.version for one in store.shown()} == {f"{number}-{movie}" for number in range(8) for movie in range(8)}
    assert is_whole(path)


def killed(act: Callable[[int], None], moment: Callable[[], float]) -> list[int]:
    """What a process acknowledged before it was killed, that acts on 0, 1, 2 ... until then.

    Args:
        act: after each call the process acknowledges the number.
        moment: how many seconds after the first acknowledgement it is killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            for number in range(10**6):
                act(number)
                os.write(writer, f"{number}\n".encode())
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader) as acknowledged:
        first = acknowledged.readline()
        time.sleep(moment())
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        rest = acknowledged.read().split()
    assert os.WTERMSIG(status) == signal.SIGKILL  # it did not fail before
    return list(map(int, [first, *rest]))


def test_what_was_acknowledged_before_a_kill_is_there(store, path):
    key = store.new_person().key
    expected: dict[int, tuple[float, int]] = {}
    chance = random.Random(0)
    for turn in range(6):

        def write(number: int, turn: int = turn) -> None:
            store.rate(key, number % 7, 0.5 + number % 10 / 2, 1000 * turn + number)

        acknowledged = killed(write, lambda: chance.uniform(0, 0.08))
        assert acknowledged == list(range(len(acknowledged)))
        expected |= {number % 7: (0.5 + number % 10 / 2, 1000 * turn + number) for number in acknowledged}
        assert is_whole(path)
        found = {one.movie_id: (one.stars, one.timestamp) for one in Store(path, DATASET).ratings(key)}
        extra = len(acknowledged)  # may be there, too, as it may have been killed before it acknowledged
        expected |= {movie: was for movie, was in found.items() if was[1] == 1000 * turn + extra}
        assert found == expected


def test_a_kill_while_the_file_is_made_leaves_one_that_can_be_used(tmp_path):
    chance = random.Random(1)
    for turn in range(4):
        acknowledged = killed(
            lambda number, turn=turn: Store(tmp_path / f"{turn}-{number}.sqlite3", DATASET) and None,
            lambda: chance.uniform(0, 0.03),
        )
        last = tmp_path / f"{turn}-{len(acknowledged)}.sqlite3"
        for path in (tmp_path / f"{turn}-0.sqlite3", last):
            store = Store(path, DATASET)
            store.rate(store.new_person().key, 1, 3)
            assert is_whole(path)
