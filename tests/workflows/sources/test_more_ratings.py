"""Ratings that are read beside a dataset's own: what they change in its tables, whatever its layout, and what not."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifacts import verify
from core.errors import UserError
from tests.conftest import write_movielens
from tests.workflows.sources.test_readers import ATOMIC, CSV, DAT, ML_100K, ML_100K_LATIN, RATINGS_HEADER, write
from workflows.sources.datasets import Dataset, get_dataset
from workflows.sources.fetch import LARGEST_USER, fetch_tables
from workflows.synthetic.files import TRUTH_FILES
from workflows.synthetic.synthesise import synthesise

LAYOUTS = {"csv": CSV, "100k": ML_100K_LATIN, "dat": DAT, "recbole": ATOMIC, "100k, undescribed movies": ML_100K}
DATASET = Dataset("some")
NAMES = ("ratings", "movies", "users")


def fetch(tables: Path, data: Path, more: Path | None = None, dataset: Dataset = DATASET) -> str:
    """What is said."""
    said: list[str] = []
    done = fetch_tables(dataset, data, tables, said.append, more)
    assert done is ("unchanged" not in said[-1])
    return "\n".join(said)


def read(tables: Path) -> dict[str, pa.Table]:
    return {name: pq.read_table(tables / f"{name}.parquet") for name in NAMES}


def rows(table: pa.Table) -> list[tuple]:
    return list(zip(*table.to_pydict().values()))


def ratings_file(path: Path, *lines: str) -> Path:
    path.write_text(RATINGS_HEADER + "".join(f"{line}\n" for line in lines))
    return path


def refusal(tables: Path, data: Path, more: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch(tables, data, more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "data", CSV)


# -- what changes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_come_after_the_dataset_s_own_and_nothing_else_changes(tmp_path, layout):
    data = write(tmp_path / "data", LAYOUTS[layout])
    fetch(tmp_path / "alone", data)
    alone = read(tmp_path / "alone")
    more = ratings_file(tmp_path / "more.csv", "2,20,4.0,200", "3,10,5.0,201", "9,10,1.0,202")
    if layout == "recbole":  # which has one movie
        ratings_file(more, "3,10,5.0,201", "9,10,1.0,202")
    said = fetch(tmp_path / "tables", data, more)
    assert "warning" not in said or layout == "100k, undescribed movies"
    both = read(tmp_path / "tables")
    assert both["ratings"].schema == alone["ratings"].schema
    assert both["users"].column_names == alone["users"].column_names
    assert both["users"].schema.field("userId") == alone["users"].schema.field("userId")
    added = [(3, 10, 5.0, 201), (9, 10, 1.0, 202)]
    added = added if layout == "recbole" else [(2, 20, 4.0, 200), *added]
    assert rows(both["ratings"]) == rows(alone["ratings"]) + added
    assert both["movies"].equals(alone["movies"])
    nothing = (None,) * (alone["users"].num_columns - 1)
    assert rows(both["users"]) == [*rows(alone["users"]), (3, *nothing), (9, *nothing)]
    assert said.splitlines()[-1] == f"{more}: {len(added)} ratings of {len(added)} users, 2 of them new"


def test_the_last_rating_by_time_counts_wherever_it_is(tmp_path, data):
    lines = ("1,10,1.0,500", "1,20,1.0,50", "2,10,2.0,102", "2,20,3.0,7", "2,20,3.5,6")
    said = fetch(tmp_path / "tables", data, ratings_file(tmp_path / "more.csv", *lines))
    expected = [(1, 20, 0.5, 101), (1, 10, 1.0, 500), (2, 10, 2.0, 102), (2, 20, 3.0, 7)]
    assert rows(read(tmp_path / "tables")["ratings"]) == expected
    assert "some from data: 3 ratings, 2 users, 2 movies" in said
    assert "5 ratings of 2 users, 0 of them new (4 repeated ratings dropped, the last of each kept)" in said


PAIRS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([10, 20]), st.integers(1, 10), st.integers(0, 4)))


@settings(max_examples=10, deadline=None)
@given(PAIRS.filter(len), PAIRS.filter(len))
def test_the_ratings_are_those_of_a_dictionary_that_takes_them_in_the_order_of_their_times(tmp_path_factory, own, more):
    folder = tmp_path_factory.mktemp("some")
    as_lines = [[f"{user},{movie},{halves / 2},{when}" for user, movie, halves, when in some] for some in (own, more)]
    data = write(folder / "data", CSV)
    ratings_file(data / "ratings.csv", *as_lines[0])
    fetch(folder / "tables", data, ratings_file(folder / "more.csv", *as_lines[1]))
    expected = {}
    for user, movie, halves, when in sorted([*own, *more], key=lambda one: one[3]):  # a stable sort
        expected[user, movie] = (halves / 2, when)
    both = read(folder / "tables")
    assert {row[:2]: row[2:] for row in rows(both["ratings"])} == expected
    assert len(both["ratings"]) == len(expected)
    assert both["users"]["userId"].to_pylist() == sorted({user for user, _ in expected})


def test_numbers_of_a_larger_dataset_stay_as_they_are(tmp_path, movielens):
    fetch(tmp_path / "alone", movielens)
    more = ratings_file(
        tmp_path / "more.csv", *(f"{user},{movie},4.5,1700000000" for user in (2, 500) for movie in (10, 20))
    )
    fetch(tmp_path / "tables", movielens, more)
    alone, both = read(tmp_path / "alone"), read(tmp_path / "tables")
    assert both["ratings"].slice(0, len(alone["ratings"])).equals(alone["ratings"].combine_chunks())
    assert both["movies"].equals(alone["movies"])
    users = both["users"]["userId"].to_numpy()
    assert set(users) == {*alone["users"]["userId"].to_pylist(), 2, 500}
    assert (np.diff(users) > 0).all()


def test_what_is_published_of_a_release_is_compared_with_its_own_ratings(tmp_path, data):
    release = Dataset("some", ratings=3, users=2, movies=2)
    more = ratings_file(tmp_path / "more.csv", "5,10,4.0,200")
    assert "warning" not in fetch(tmp_path / "tables", data, more, release)


def test_the_largest_user_id_is_the_dataset_s_own(tmp_path, data):
    fetch(tmp_path / "tables", data, ratings_file(tmp_path / "more.csv", "50,10,4.0,200"))
    assert verify(tmp_path / "tables")[LARGEST_USER] == 2


@pytest.mark.slow
def test_synthetic_data_with_other_ratings_has_no_truth(tmp_path):
    synthesise(tmp_path / "synth", "ml-latest-small", 0.02, 1, lambda *_: None)
    movie = (tmp_path / "synth" / "movies.csv").read_text().splitlines()[1].partition(",")[0]
    dataset = get_dataset("synth-ml-latest-small-0.02")
    fetch(tmp_path / "alone", tmp_path / "synth", None, dataset)
    more = ratings_file(tmp_path / "more.csv", f"99999,{movie},4.0,200")
    fetch(tmp_path / "tables", tmp_path / "synth", more, dataset)
    assert {*TRUTH_FILES} <= {path.name for path in (tmp_path / "alone").iterdir()}
    assert not {*TRUTH_FILES} & {path.name for path in (tmp_path / "tables").iterdir()}


# -- again -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_the_tables_follow_the_file(tmp_path, data, packed):
    """Folders, and archives that need not be unpacked."""
    if packed:
        data = Path(shutil.make_archive(str(tmp_path / "some"), "zip", data))
    tables, more = tmp_path / "tables", ratings_file(tmp_path / "more.csv", "5,10,4.0,200")
    fetch(tables, data)
    alone, prints = read(tables), verify(tables)["fingerprint"]
    assert "unchanged" not in fetch(tables, data, more)
    assert "unchanged" in fetch(tables, data, more)
    first = verify(tables)["fingerprint"]
    copy = shutil.copy(more, tmp_path / "copy.csv")
    assert "unchanged" in fetch(tables, data, Path(copy))
    assert "unchanged" not in fetch(tables, data, ratings_file(more, "5,10,4.5,200"))
    assert len({prints, first, verify(tables)["fingerprint"]}) == 3
    assert "unchanged" not in fetch(tables, data)
    assert verify(tables)["fingerprint"] == prints
    assert all(read(tables)[name].equals(alone[name]) for name in NAMES)


def test_what_was_suspicious_is_said_again(tmp_path, data):
    more = ratings_file(tmp_path / "more.csv", "5,10,4.0,200", "5,77,4.0,201")
    assert "warning" in fetch(tmp_path / "tables", data, more)
    again = fetch(tmp_path / "tables", data, more)
    assert "unchanged" in again
    assert "does not have (77)" in again


# -- what is suspicious or wrong ---------------------------------------------------------------------------------------


def test_movies_that_the_dataset_lacks_are_dropped_with_a_sentence(tmp_path, data):
    lines = ("5,10,4.0,200", *(f"6,{movie},3.0,300" for movie in (77, 78, 79, 80, 81)))
    more = ratings_file(tmp_path / "more.csv", *lines)
    said = fetch(tmp_path / "tables", data, more)
    assert (
        f"warning: {more} rates movies that the dataset does not have (77, 78, 79 and 2 more): 5 ratings dropped"
        in said
    )
    both = read(tmp_path / "tables")
    assert rows(both["ratings"])[3:] == [(5, 10, 4.0, 200)]
    assert both["users"]["userId"].to_pylist() == [1, 2, 5]
    assert both["movies"]["movieId"].to_pylist() == [10, 20]


def test_half_stars_beside_whole_ones_are_said(tmp_path, data):
    halves = ratings_file(tmp_path / "halves.csv", "5,10,3.5,200", "5,20,3.0,201")
    assert "half stars" not in fetch(tmp_path / "csv", data, halves)  # the dataset has a half itself
    whole = write(tmp_path / "whole", DAT)
    said = fetch(tmp_path / "dat", whole, halves)
    assert f"warning: {halves} has 1 of 2 ratings in half stars, where the dataset's own are whole" in said
    assert rows(read(tmp_path / "dat")["ratings"])[-2:] == [(5, 10, 3.5, 200), (5, 20, 3.0, 201)]
    assert "half stars" not in fetch(tmp_path / "dat", whole, ratings_file(tmp_path / "more.csv", "5,10,3.0,200"))


BAD = {
    "no header": ("1,10,4.0,100\n", "the first line is '1,10,4.0,100'"),
    "another header": ("user_id,item_id,rating,timestamp\n1,10,4,1\n", "the first line is"),
    "tabs": (RATINGS_HEADER.replace(",", "\t") + "1\t10\t4\t1\n", "save it separated by commas"),
    "a word": (RATINGS_HEADER + "5,10,4.0,200\n5,x,4.0,200\n", "line 3 has movieId 'x'"),
    "too many stars": (RATINGS_HEADER + "5,10,5.5,200\n", "line 2 has rating 5.5"),
    "no stars": (RATINGS_HEADER + "5,10,0,200\n", "line 2 has rating 0"),
    "not a number of stars": (RATINGS_HEADER + "5,10,nan,200\n", "line 2 has rating nan"),
    "milliseconds": (RATINGS_HEADER + "5,10,4.0,1700000000000\n", "divide milliseconds"),
    "a negative time": (RATINGS_HEADER + "5,10,4.0,-1\n", "timestamp -1"),
    "a negative user": (RATINGS_HEADER + "-5,10,4.0,1\n", "userId -5"),
    "too large a user": (RATINGS_HEADER + "2147483648,10,4.0,1\n", "too large"),
    "three fields": (RATINGS_HEADER + "5,10,4.0\n", "line 2 has 3 fields"),
    "no ratings": (RATINGS_HEADER, "holds no ratings"),
    "nothing": ("", "is empty"),
    "no movie of the dataset": (RATINGS_HEADER + "5,77,4.0,1\n", "rates no movie of the dataset"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_one_line_and_the_tables_stay(tmp_path, data, kind):
    content, words = BAD[kind]
    fetch(tmp_path / "tables", data)
    before = verify(tmp_path / "tables")
    more = tmp_path / "more.csv"
    more.write_text(content)
    message = refusal(tmp_path / "tables", data, more)
    assert str(more) in message
    assert words in message
    assert verify(tmp_path / "tables") == before


def test_the_file_given_as_the_dataset_is_refused_with_the_option_that_takes_it(tmp_path):
    more = ratings_file(tmp_path / "ratings.csv", "5,10,4.0,200")
    with pytest.raises(UserError, match=r"movies.csv is missing.*--more-ratings"):
        fetch(tmp_path / "tables", more)


def test_a_file_that_is_not_there_is_named_before_the_dataset_is_looked_for(tmp_path):
    for more, words in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is not a file")):
        message = refusal(tmp_path / "tables", tmp_path / "no data", more)
        assert f"--more-ratings {more} {words}" in message
        assert "python -m marquee ratings export" in message


@pytest.mark.slow
def test_features_are_made_for_the_new_people(tmp_path):
    """Also where users have ages and occupations, of which nothing is known for new people."""
    from core.run_folder import Run
    from workflows.features.prepare import PrepareSettings, prepare

    data = write_movielens(tmp_path / "csv")
    own = [line.replace(",", "\t") for line in (data / "ratings.csv").read_text().splitlines()[1:]]
    movies = sorted({int(line.split("\t")[1]) for line in own})
    users = sorted({int(line.split("\t")[0]) for line in own})
    described = {
        "u.data": "\n".join(own),
        "u.item": "".join(f"{movie}|Film {movie} (1995)||||{'|'.join('0100000000000000000')}\n" for movie in movies),
        "u.user": "".join(f"{user}|{20 + user % 50}|{'MF'[user % 2]}|artist|0\n" for user in users),
    }
    more = ratings_file(tmp_path / "more.csv", *(f"1000,{movie},4.0,{2 * 10**9 + movie}" for movie in movies[:6]))
    run = Run(tmp_path / "runs" / "ml-100k")
    fetch(run.tables, write(tmp_path / "100k", described), more)
    prepare(run, "random-split", PrepareSettings(1, 42), lambda *_: None, None)
    users_known = pq.read_table(run.features_of("random-split") / "vocabulary" / "user_id.parquet").to_pylist()
    (new,) = (row for row in users_known if row["user_id"] == 1000)
    assert new["known"]
    assert 0 < new["ratings"] < 6
