"""`ratings export`: from what people rate on the page to the tables that the next models are trained on."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.run_folder import Run
from dashboard.store import Store
from marquee.app import main
from tests.conftest import write_movielens
from tests.workflows.sources.test_readers import DAT, ML_100K_LATIN, write

ROOT = Path(__file__).resolve().parents[2]
HEADER = "userId,movieId,rating,timestamp"


def marquee(*arguments: object) -> int:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
    finally:
        signal.signal(signal.SIGTERM, before)
    return end.value.code or 0


class Home:
    """A dataset, its run, and the page's store."""

    def __init__(self, folder: Path, dataset: str, data: Path):
        self.folder, self.dataset, self.data = folder, dataset, data
        self.run = Run(folder / "runs" / dataset)
        self.out = folder / "ratings.csv"

    @property
    def store(self) -> Store:
        return Store(self.run.people, self.dataset)

    def of_run(self) -> tuple[object, ...]:
        return ("--dataset", self.dataset, "--runs", self.run.root.parent)

    def fetch(self, *more: object) -> None:
        assert marquee("fetch", *self.of_run(), "--data", self.data, *more) == 0

    def export(self, *more: object) -> int:
        return marquee("ratings", "export", *self.of_run(), "--out", self.out, *more)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def rows(self, table: str) -> list[tuple]:
        return list(zip(*pq.read_table(self.run.tables / f"{table}.parquet").to_pydict().values()))


@pytest.fixture
def home(tmp_path) -> Home:
    """A small ml-100k of users 1 and 2 and movies 10 and 20."""
    made = Home(tmp_path, "ml-100k", write(tmp_path / "data", ML_100K_LATIN))
    made.fetch()
    return made


def refusal(home: Home, capsys, *more: object) -> str:
    capsys.readouterr()
    assert home.export(*more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


HOMES = {
    "ml-latest-small": (lambda folder: write_movielens(folder), 119),  # users 1, 3, ... 119
    "ml-100k": (lambda folder: write(folder, ML_100K_LATIN), 2),
    "ml-1m": (lambda folder: write(folder, DAT), 2),
}


@pytest.mark.parametrize("dataset", HOMES)
def test_what_people_rate_reaches_the_tables_and_nothing_else_changes(tmp_path, capsys, dataset):
    make, largest = HOMES[dataset]
    home = Home(tmp_path, dataset, make(tmp_path / "data"))
    home.fetch()
    alone = {table: home.rows(table) for table in ("ratings", "movies", "users")}
    user, new = home.store.new_person(1), home.store.new_person()
    home.store.rate(user.key, 20, 2.0, 1_800_000_000)
    home.store.rate(new.key, 20, 4.0, 1_800_000_002)
    home.store.rate(new.key, 10, 4.5, 1_800_000_001)
    home.store.thumb(new.key, 10, False)
    assert home.export() == 0
    new_id = largest + 1
    assert home.lines() == [
        HEADER,
        "1,20,2.0,1800000000",
        f"{new_id},10,4.5,1800000001",
        f"{new_id},20,4.0,1800000002",
    ]
    said = capsys.readouterr().out
    assert f"{home.out}: 3 ratings of 2 users, 1 of them new (ids {new_id} to {new_id})" in said
    assert said.splitlines()[-1].strip() == f"{home.run.command('run')} --more-ratings {home.out}"
    home.fetch("--more-ratings", home.out)
    replaced = [row for row in alone["ratings"] if row[:2] != (1, 20)]
    added = [(1, 20, 2.0, 1_800_000_000), (new_id, 10, 4.5, 1_800_000_001), (new_id, 20, 4.0, 1_800_000_002)]
    assert home.rows("ratings") == replaced + added
    assert home.rows("movies") == alone["movies"]
    assert home.rows("users")[:-1] == alone["users"]
    assert home.rows("users")[-1] == (new_id, *[None] * (len(alone["users"][0]) - 1))
    home.fetch()
    assert {table: home.rows(table) for table in alone} == alone


def test_ids_stay_from_one_export_and_fetch_to_the_next(home):
    first, second = home.store.new_person(), home.store.new_person()
    home.store.rate(second.key, 10, 3, 5)
    assert home.export() == 0
    home.fetch("--more-ratings", home.out)
    home.store.rate(first.key, 20, 5, 6)
    home.store.rate(second.key, 10, 1, 7)
    assert home.export() == 0
    assert home.lines() == [HEADER, "3,10,1.0,7", "4,20,5.0,6"]
    home.fetch("--more-ratings", home.out)
    assert home.export() == 0
    assert home.lines() == [HEADER, "3,10,1.0,7", "4,20,5.0,6"]


def test_a_dataset_with_more_users_moves_people_with_a_sentence(home, capsys):
    home.store.rate(home.store.new_person().key, 10, 3, 5)
    assert home.export() == 0
    home.fetch("--more-ratings", home.out)
    (home.data / "u.data").write_text("1\t10\t4\t100\n7\t20\t1\t101\n")
    home.fetch()
    capsys.readouterr()
    assert home.export() == 0
    assert home.lines() == [HEADER, "8,10,3.0,5"]
    assert "people with new ids: 1" in capsys.readouterr().out


def test_another_file_is_exported_with_database(home, tmp_path):
    other = Store(tmp_path / "other.sqlite3", "ml-100k")
    other.rate(other.new_person(2).key, 10, 3.5, 5)
    assert home.export("--database", tmp_path / "other.sqlite3") == 0
    assert home.lines() == [HEADER, "2,10,3.5,5"]
    assert not home.run.people.exists()


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_without_a_store_or_ratings_nothing_is_written(home, capsys):
    assert "people.sqlite3 does not exist" in refusal(home, capsys)
    assert not home.run.people.exists()
    home.store.new_person()
    assert "holds no ratings" in refusal(home, capsys)
    assert not home.out.exists()


def test_without_tables_fetch_is_named(tmp_path, capsys):
    assert "fetch" in refusal(Home(tmp_path, "ml-1m", tmp_path), capsys)


def test_the_store_of_another_dataset_is_refused(home, capsys, tmp_path):
    Store(tmp_path / "other.sqlite3", "ml-1m")
    assert "ratings of ml-1m" in refusal(home, capsys, "--database", tmp_path / "other.sqlite3")


def test_a_file_that_is_not_a_store_is_refused(home, capsys):
    assert "not an SQLite database" in refusal(home, capsys, "--database", home.data / "u.item")


def test_a_dataset_s_own_ratings_are_not_replaced(home, capsys, tmp_path):
    home.store.rate(home.store.new_person().key, 10, 3, 5)
    data = write_movielens(tmp_path / "csv")
    own = (data / "ratings.csv").read_bytes()
    assert "movies.csv" in refusal(home, capsys, "--out", data / "ratings.csv")
    assert (data / "ratings.csv").read_bytes() == own
    assert "is a directory" in refusal(home, capsys, "--out", tmp_path)


def test_a_full_disk_leaves_the_earlier_file(home):
    key = home.store.new_person().key
    home.store.rate(key, 10, 3, 5)
    assert home.export() == 0
    before = home.out.read_bytes()
    with closing(sqlite3.connect(home.run.people)) as connection:
        many = ((movie,) for movie in range(100, 4000))
        connection.executemany("INSERT INTO ratings VALUES (1, ?, 3, 1800000000)", many)
        connection.commit()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # enough for the store, not for the rows
            os._exit(home.export())
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert home.out.read_bytes() == before
    assert sorted(path.name for path in home.folder.iterdir()) == ["data", "ratings.csv", "runs"]
    assert home.export() == 0
    assert len(home.lines()) == 3902


def test_the_other_commands_do_without_the_page():
    """The serving image is without it."""
    code = "import marquee.app, sys; sys.exit('dashboard' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("command", ["fetch", "run"])
def test_more_ratings_that_are_not_there_are_named(home, capsys, command):
    capsys.readouterr()
    assert marquee(command, *home.of_run(), "--data", home.data, "--more-ratings", home.folder / "none.csv") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"--more-ratings {home.folder / 'none.csv'} does not exist" in line


@pytest.mark.parametrize("arguments", [("ratings", "--help"), ("ratings", "export", "--help")])
def test_the_commands_have_help(capsys, arguments):
    assert marquee(*arguments) == 0
    assert f"python -m marquee {' '.join(arguments[:-1])}" in " ".join(capsys.readouterr().out.split())
