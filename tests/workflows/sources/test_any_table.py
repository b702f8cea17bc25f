"""Tables of anybody's own: what is read of them, and what is said about those that cannot be read."""

import gzip
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UserError
from tests.contracts.readers import ratings_of
from workflows.sources.any_table import read_table, suggestion
from workflows.sources.fetch_table import fetch_any_table
from workflows.sources.read import Tables
from workflows.sources.table_columns import Columns, is_table, name_of, parse_columns, remembered

BARE = Columns("who", "what")
FULL = Columns("who", "what", "stars", "when", "name", "kinds")


def csv(folder: Path, *lines: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(folder: Path, **columns: object) -> Path:
    path = folder / "own.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def refusal(path: Path, columns: Columns) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, columns)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def own(tables: Tables) -> list[tuple[object, object]]:
    """(user, item) of each rating, as they were in the file."""
    users, items = (
        dict(zip(frame[raw], frame["id"] if "id" in frame else frame[raw]))
        for frame, raw in ((tables.users, "userId"), (tables.movies, "movieId"))
    )
    return [(users[user], items[item]) for user, item, *_ in ratings_of(tables)]


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_full_table(tmp_path):
    path = csv(
        tmp_path,
        "when,who,what,stars,name,kinds,colour",
        "100,anna,b1,4.5,Heat (1995),Action|Crime,red",
        "101,bert,b2,1,,,",
        '102,anna,b2,3,"Clue, the Film",Comedy,"x,y"',
    )
    tables = read_table(path, FULL)
    assert ratings_of(tables) == [(0, 0, 4.5, 100), (1, 1, 1.0, 101), (0, 1, 3.0, 102)]
    assert own(tables) == [("anna", "b1"), ("bert", "b2"), ("anna", "b2")]
    rows = tables.movies[["movieId", "title", "year", "genres", "id"]].values.tolist()
    assert rows == [[0, "Heat", 1995, ["Action", "Crime"], "b1"], [1, "b2", 0, [], "b2"]]
    assert tables.users.to_dict("list") == {"userId": [0, 1], "id": ["anna", "bert"]}
    types = {field.name: str(field.type) for field in tables.ratings.schema}
    assert types == {"userId": "int32", "movieId": "int32", "rating": "float", "timestamp": "int64"}
    assert tables.notes == ()


def test_without_ratings_and_time_every_row_is_a_choice_in_the_order_of_the_file(tmp_path):
    tables = read_table(csv(tmp_path, "who,what", "b,x", "a,y", "b,y"), BARE)
    assert ratings_of(tables) == [(1, 0, 5.0, 0), (0, 1, 5.0, 1), (1, 1, 5.0, 2)]
    assert ["there are no ratings" in tables.notes[0], "there is no time" in tables.notes[1]] == [True, True]


def test_ids_that_fit_stay_as_they_are_and_others_are_numbered_in_order(tmp_path):
    kept = read_table(csv(tmp_path, "who,what", "7,20", "0,10"), BARE)
    assert ratings_of(kept) == [(7, 20, 5.0, 0), (0, 10, 5.0, 1)]
    assert list(kept.movies["title"]) == ["10", "20"]
    assert "id" not in kept.users
    assert "id" not in kept.movies
    large = read_table(csv(tmp_path, "who,what", f"{2**40},-5", "3,10"), BARE)
    assert own(large) == [(2**40, -5), (3, 10)]
    assert [str(frame["id"].dtype) for frame in (large.users, large.movies)] == ["int64", "int64"]


@pytest.mark.parametrize("text", ["007", "+7", "7.0", "1e3", "9999999999999999999", " 7"])
def test_what_only_looks_like_a_number_is_text(tmp_path, text):
    tables = read_table(csv(tmp_path, "who,what", f"{text},1", "8,2"), BARE)
    assert own(tables) == [(text, 1), ("8", 2)]


IDS = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=8),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.uuids().map(str),
)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12, unique=True))
def test_any_ids_come_back_from_parquet(tmp_path, pairs):
    users, items = zip(*pairs)
    tables = read_table(parquet(tmp_path, who=list(users), what=list(items)), BARE)
    assert [(str(user), str(item)) for user, item in own(tables)] == pairs
    for frame, raw in ((tables.users, "userId"), (tables.movies, "movieId")):
        if "id" in frame:
            ids = [one.encode() if isinstance(one, str) else one for one in frame["id"]]
            assert ids == sorted(set(ids))
            assert frame[raw].tolist() == list(range(len(ids)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([100, 86_400_000], pa.int32()), [100, 86_400_000]),
        (pa.array([100.9, 200.0]), [100, 200]),
        (pa.array([date(1970, 1, 2), date(1970, 1, 4)]), [86_400, 259_200]),
        (pa.array([datetime(1970, 1, 1, 0, 1, 5, 999_000), datetime(2000, 1, 1)]), [65, 946_684_800]),
        (pa.array([datetime(1970, 1, 1, 1, tzinfo=timezone.utc)] * 2, pa.timestamp("us", "Europe/Berlin")), [3600] * 2),
    ],
    ids=["whole", "fractions", "days", "times", "zones"],
)
def test_times_of_any_kind_are_seconds(tmp_path, values, expected):
    path = parquet(tmp_path, who=["a", "b"], what=["x", "y"], when=values)
    tables = read_table(path, Columns("who", "what", time="when"))
    assert tables.ratings["timestamp"].to_pylist() == expected


def test_times_in_csv_may_be_written_out(tmp_path):
    path = csv(tmp_path, "who,what,when", "a,x,1970-01-01 00:01:05", "b,y,2000-01-01T00:00:00")
    assert read_table(path, Columns("who", "what", time="when")).ratings["timestamp"].to_pylist() == [65, 946_684_800]


def test_whole_days_are_said(tmp_path):
    path = csv(tmp_path, "who,what,when", "a,x,1970-01-02", "b,y,2000-01-01")
    assert "times are whole days" in read_table(path, Columns("who", "what", time="when")).notes[-1]


def test_tabs_and_gzip_are_read_and_columns_of_parquet_of_other_types(tmp_path):
    (tmp_path / "own.tsv.gz").write_bytes(gzip.compress(b"who\twhat\na,b\tx\n"))
    assert own(read_table(tmp_path / "own.tsv.gz", BARE)) == [("a,b", "x")]
    path = parquet(tmp_path, who=pa.array(["b", "a"]).dictionary_encode(), what=pa.array([1.0, 2.0]))
    assert own(read_table(path, BARE)) == [("b", 1), ("a", 2)]
    path = parquet(tmp_path, who=pa.array([2**63 + 1, 5], pa.uint64()), what=pa.array(["x", "y"], pa.large_string()))
    assert own(read_table(path, BARE)) == [(str(2**63 + 1), "x"), ("5", "y")]


def test_of_a_repeated_choice_the_last_stays(tmp_path):
    tables = read_table(csv(tmp_path, "who,what,stars", "a,x,1", "a,x,4"), Columns("who", "what", "stars"))
    assert (ratings_of(tables), tables.repeated) == ([(0, 0, 4.0, 1)], 1)


# -- what is refused ---------------------------------------------------------------------------------------------------

BAD = {
    "no such column": (["who,that", "a,b"], BARE, "no column what; its columns are who, that"),
    "a column twice": (["who,what,what", "a,b,c"], BARE, "several columns what"),
    "an id left out": (["who,what", "a,x", ",y"], BARE, "row 2 has nothing in who; fill or remove it"),
    "a long id": (["who,what", f"{'é' * 200},x"], BARE, "row 1 has an id of 400 bytes in who; an id may have 256"),
    "a rating left out": (["who,what,stars", "a,x,1", "b,y,"], Columns("who", "what", "stars"), "row 2 has nothing in"),
    "ratings to ten": (["who,what,stars", "a,x,5", "b,y,10"], Columns("who", "what", "stars"), "row 2 has 10 in stars"),
    "ratings in words": (["who,what,stars", "a,x,good"], Columns("who", "what", "stars"), "cannot be read as CSV"),
    "times in words": (["who,what,when", "a,x,today"], Columns("who", "what", time="when"), "when is of type string"),
    "milliseconds": (["who,what,when", "a,x,1700000000000"], Columns("who", "what", time="when"), "divide millisec"),
    "a row too short": (["who,what", "a,x", "b"], BARE, "cannot be read as CSV in UTF-8 with a header"),
    "a header alone": (["who,what"], BARE, "holds no rows"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_table_is_refused_in_one_line(tmp_path, what):
    lines, columns, said = BAD[what]
    assert said in refusal(csv(tmp_path, *lines), columns)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([1.5, 2.0]), "holds fractions"),
        (pa.array([True, False]), "is of type bool; ids are whole numbers or text"),
        (pa.array([None, "a"]), "row 1 has nothing in who"),
        (pa.array([float("nan"), 1.0]), "holds fractions"),
        (pa.array([[1], [2]]), "is of type list"),
        (pa.array([b"a", b"b"]), "is of type binary"),
    ],
)
def test_ids_of_other_types_are_refused(tmp_path, values, said):
    assert said in refusal(parquet(tmp_path, who=values, what=["x", "y"]), BARE)


def test_files_that_are_none_are_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.csv", BARE)
    (tmp_path / "empty.csv").touch()
    assert "is empty" in refusal(tmp_path / "empty.csv", BARE)
    (tmp_path / "no.parquet").write_text("who,what\n")
    assert "cannot be read as Parquet" in refusal(tmp_path / "no.parquet", BARE)
    (tmp_path / "latin.csv").write_bytes("who,what\né,x\n".encode("latin-1"))
    assert "UTF-8" in refusal(tmp_path / "latin.csv", BARE)


# -- which column says what --------------------------------------------------------------------------------------------


def test_columns_are_written_as_they_are_read():
    text = "user=who,item=what,time=when"
    assert parse_columns(text) == Columns("who", "what", time="when")
    assert str(parse_columns(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user=a", "lacks item"),
        ("", "give pairs such as user=NAME"),
        ("user=a,item", "has 'item'"),
        ("user=a,item=", "has 'item='"),
        ("user=a,item=b,price=c", "has 'price=c'"),
        ("user=a,user=b,item=c", "gives user twice"),
        ("user=a,item=a", "takes one column for two"),
    ],
)
def test_columns_that_are_none_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_columns(text)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("userId,movieId,rating,timestamp", "--columns user=userId,item=movieId,rating=rating,time=timestamp"),
        ("price,CUSTOMER_ID,sku", "--columns user=CUSTOMER_ID,item=sku"),
        ("a,b", "--columns user=NAME,item=NAME, and rating"),
    ],
)
def test_columns_are_suggested_by_their_names(tmp_path, header, said):
    assert said in suggestion(csv(tmp_path, header, ",".join("1" * (1 + header.count(",")))))


def test_a_table_is_told_by_its_ending():
    assert [is_table(text) for text in ("a.csv", "b/c.TSV.gz", "d.parquet", "ml-1m", "x.zip")] == [True] * 3 + [
        False
    ] * 2
    assert [name_of(Path(text)) for text in ("x/a.b.csv", "c.TSV.gz", "d.parquet")] == ["a.b", "c", "d"]


# -- the canonical tables ----------------------------------------------------------------------------------------------


def test_a_table_is_fetched_once_and_remembered(tmp_path):
    said: list[str] = []
    tables, path = tmp_path / "tables", csv(tmp_path, "who,what", "b,x", "a,y")
    assert fetch_any_table(path, BARE, tables, said.append)
    assert said[-1] == f"{path}: 2 ratings, 2 users, 2 movies"
    assert remembered(tables) == (str(path), BARE)
    assert pq.read_table(tables / "users.parquet").to_pydict() == {"userId": [0, 1], "id": ["a", "b"]}
    assert not fetch_any_table(path, BARE, tables, said.append)
    assert said[-1] == f"{path}: unchanged, tables reused"
    assert fetch_any_table(path, Columns("what", "who"), tables, said.append)
    csv(tmp_path, "who,what", "b,x", "a,z")
    assert fetch_any_table(path, BARE, tables, said.append)
    assert np.array_equal(pq.read_table(tables / "movies.parquet")["id"].to_pylist(), ["x", "z"])
    assert remembered(tmp_path / "none") is None
