"""A dataset with a layout of its own, a split, and side features, each added without touching the packages."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.artifacts import CHECKOUT, new_folder
from core.columns import MOVIES_COLUMNS, RAW_MOVIE, RAW_USER, TITLE
from core.errors import UserError
from core.run_folder import Run
from core.stage_code import stage_code
from tests.contracts.readers import ReaderContract
from tests.contracts.splits import SplitContract
from tests.names import DEFAULT_PROTOCOLS
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.schema import load_schema
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature, UserFeature
from workflows.features.vocabulary import FIRST_INDEX
from workflows.sources.datasets import DATASETS, Dataset, get_dataset
from workflows.sources.download import Unreachable
from workflows.sources.fetch import fetch_tables
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.ratings import read_ratings
from workflows.sources.text import text_rows
from workflows.splits.base import SPLITS, TEST, TRAIN, VALID, Split, Splitter, TimeOrder


def quiet(*_) -> None:
    pass


# -- a layout and a dataset --------------------------------------------------------------------------------------------


def toy_movies(path: Path) -> pd.DataFrame:
    """`id;year;title`, without genres."""
    rows = text_rows(path, ";", fields=3)
    found = [(row.number(0, RAW_MOVIE), row[2], row.number(1, "year"), []) for row in rows]
    return pd.DataFrame(found, columns=list(MOVIES_COLUMNS))


TOY_LAYOUT = Layout(
    "toy",
    ratings_file="toy-ratings.txt",
    ratings=partial(read_ratings, separator=";"),
    movies_file="toy-movies.txt",
    movies=toy_movies,
)
TOY_FILES = {
    "toy-ratings.txt": "1;10;4.5;100\n2;10;3;50\n2;20;5;60\n",
    "toy-movies.txt": "10;1995;Heat\n20;0;Clue\n",
}


class TestToyLayout(ReaderContract):
    name = "toy"
    entry = TOY_LAYOUT
    files = TOY_FILES
    ratings = ((1, 10, 4.5, 100), (2, 10, 3.0, 50), (2, 20, 5.0, 60))
    movies = ((10, "Heat", 1995, []), (20, "Clue", 0, []))
    users = ((1,), (2,))
    rating_line = "{user};{movie};{stars};{time}"
    movie_line = "{movie};1985;Ran"
    separator = ";"


@dataclass(frozen=True)
class CopiedFolder:
    """A source that copies the toy's files."""

    label = "the toy mirror"
    address = "toys.example"

    def obtain(self, name: str, home: Path, is_raw) -> Path:
        (home / name).mkdir(parents=True)
        for file, text in {**TOY_FILES, "README.txt": "no data"}.items():
            if is_raw(file):
                (home / name / file).write_text(text)
        return home / name


@dataclass(frozen=True)
class UnreachableMirror:
    """A source that cannot be reached."""

    label = "the first mirror"
    address = "unreachable.example"

    def obtain(self, name: str, home: Path, is_raw) -> Path:
        raise Unreachable("no route to host")


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Iterator[str]:
    """The name of a dataset with a layout and sources of its own."""
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    LAYOUTS.add("toy", TOY_LAYOUT)
    DATASETS.add(
        "toy", Dataset("toy", ratings=3, users=2, movies=2, layout="toy", sources=(UnreachableMirror(), CopiedFolder()))
    )
    yield "toy"
    DATASETS.remove("toy")
    LAYOUTS.remove("toy")


def test_a_toy_dataset_is_fetched_from_its_own_sources(toy, tmp_path):
    said: list[str] = []
    assert fetch_tables(get_dataset(toy), None, tmp_path / "tables", said.append)
    assert said[0] == "the first mirror cannot be reached (no route to host); trying the toy mirror"
    assert said[1] == "toy from the toy mirror: 3 ratings, 2 users, 2 movies"
    assert pq.read_table(tmp_path / "tables" / "ratings.parquet")["rating"].to_pylist() == [4.5, 3, 5]
    assert sorted(path.name for path in (tmp_path / "home" / "toy").iterdir()) == sorted(TOY_FILES)
    assert not fetch_tables(get_dataset(toy), None, tmp_path / "tables", said.append)


def test_a_toy_dataset_whose_sources_all_fail_is_refused(toy, tmp_path):
    with pytest.raises(
        UserError, match=r"toy from unreachable\.example \(no route to host\) or unreachable\.example .*--data"
    ):
        fetch_tables(
            Dataset("toy", sources=(UnreachableMirror(), UnreachableMirror())), None, tmp_path / "tables", quiet
        )
    with pytest.raises(UserError, match=r"home/toy does not exist; .*--data"):
        fetch_tables(Dataset("toy"), None, tmp_path / "tables", quiet)


def test_the_datasets_own_layout_is_looked_for_first(tmp_path):
    """`ratings.csv` is MovieLens' too, and `movies.csv` beside it."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "movies.csv").write_text("movieId,title,genres\n10,Heat (1995),Crime\n")
    (tmp_path / "raw" / "ratings.csv").write_text("1;10;4.5;100\n")
    (tmp_path / "raw" / "toy-movies.txt").write_text(TOY_FILES["toy-movies.txt"])
    own = Layout(
        "own", ratings_file="ratings.csv", ratings=TOY_LAYOUT.ratings, movies_file="toy-movies.txt", movies=toy_movies
    )
    LAYOUTS.add("own", own)
    try:
        with pytest.raises(
            UserError, match=r"raw/ratings\.csv may be MovieLens CSV \(.*\) or own: movies\.csv and toy"
        ):
            fetch_tables(Dataset("toy"), tmp_path / "raw", tmp_path / "tables", quiet)
        assert fetch_tables(Dataset("toy", layout="own"), tmp_path / "raw", tmp_path / "tables", quiet)
        (tmp_path / "raw" / "movies.csv").unlink()  # now it can be one of them only
        assert fetch_tables(Dataset("toy"), tmp_path / "raw", tmp_path / "others", quiet)
    finally:
        LAYOUTS.remove("own")
    with pytest.raises(UserError, match="unknown layout 'own'"):
        fetch_tables(Dataset("toy", layout="own"), tmp_path / "raw", tmp_path / "tables", quiet)


# -- a split -----------------------------------------------------------------------------------------------------------


def assign_by_time(times: TimeOrder, _rng: np.random.Generator) -> Split:
    """The latest fifth of all ratings tests, the tenth before it validates."""
    order = np.argsort(times.timestamp, kind="stable")
    part = np.full(len(times), TRAIN, np.int8)
    part[order[round(0.7 * len(times)) :]] = VALID
    part[order[round(0.8 * len(times)) :]] = TEST
    return Split(part)


def at_least_four(rating):
    """1 from 4 stars on."""
    return (rating >= 4).astype("float32")


class TestToySplit(SplitContract):
    name = "by-time"
    uses_chance = False
    entry = Splitter(assign=assign_by_time, label=at_least_four, candidates=True, stream=7, needs="ten ratings")


def test_an_unknown_split_is_refused_and_the_known_ones_listed(prepared):
    known = "leave-one-out, random-split, temporal, u1, u2, u3, u4, u5"
    with pytest.raises(UserError, match=rf"unknown split 'by-time'; choose one of {known}$"):
        prepare(prepared, "by-time", PrepareSettings(), quiet)


# -- side features -----------------------------------------------------------------------------------------------------


class TitleLength(MovieFeature):
    """How long a title is, in tens of characters, and whether it has more than ten."""

    source = (TITLE,)
    weight = 0.5

    def graph(self, movies: pd.DataFrame, scratch: Path):
        from nvtabular import ops

        return [TITLE] >> ops.LambdaOp(tens_of_characters)

    def values(self, result: pd.DataFrame, scratch: Path) -> pd.DataFrame:
        length = result[TITLE].astype(np.float32)
        return pd.DataFrame({"title_length": length, "title_is_long": (length > 1).astype(np.float32)})


def tens_of_characters(title):
    return title.str.len() / 10


class ZipCode(UserFeature):
    """A column of the users table that no dataset here has but the toy's."""

    source = ("zip_code",)


@pytest.fixture
def side_features() -> Iterator[None]:
    SIDE_FEATURES.add("title", TitleLength(), position=5)  # before the genres
    SIDE_FEATURES.add("zip_code", ZipCode())
    yield
    SIDE_FEATURES.remove("zip_code")
    SIDE_FEATURES.remove("title")


def copied_tables(prepared: Run, folder: Path) -> Run:
    run = Run(folder / prepared.root.name)
    run.root.mkdir()
    run.tables.symlink_to(prepared.tables)
    return run


def test_a_toy_movie_feature_is_in_the_side_table_the_features_and_the_schema(prepared, side_features, tmp_path):
    run = copied_tables(prepared, tmp_path)
    assert prepare(run, "random-split", PrepareSettings(), quiet)
    old, new = prepared.features / "random-split", run.features / "random-split"
    before, after = (pd.read_parquet(folder / "side" / "movie_features.parquet") for folder in (old, new))
    names = ["title_length", "title_is_long"]
    assert list(after.columns) == ["movie_index", *names, *before.columns[1:]]
    pd.testing.assert_frame_equal(after.drop(columns=names), before)
    movies = pd.read_parquet(run.tables / "movies.parquet").set_index(RAW_MOVIE)
    ids = pd.read_parquet(new / "vocabulary" / "movie_id.parquet")["movie_id"]
    expected = movies.loc[ids, TITLE].str.len().to_numpy() / 10
    np.testing.assert_allclose(after["title_length"][FIRST_INDEX:], expected, rtol=1e-6)
    assert (after[names].dtypes == np.float32).all()
    assert not after[names][:FIRST_INDEX].to_numpy().any()
    details, earlier = (json.loads((folder / "features.json").read_text()) for folder in (new, old))
    assert details["movie_features"] == {"title": names, **earlier["movie_features"]}
    assert details["continuous"] == [*names, *earlier["continuous"]]
    assert load_schema(new)["continuous"].value_count.max == len(earlier["continuous"]) + 2
    assert "zip_code" not in load_schema(new).column_names  # which the users table does not have


def test_the_features_of_the_packages_are_named_in_features_json(prepared):
    for name in DEFAULT_PROTOCOLS:
        found = json.loads((prepared.features / name / "features.json").read_text())
        genres = [f"genre_{genre}" for genre in ("Action", "Comedy", "Drama", "Film-Noir", "Sci-Fi")]
        assert found["movie_features"] == {"genres": genres, "year": ["year"]}
    weights = {name: (one.weight, one.unit) for name, one in SIDE_FEATURES.items() if isinstance(one, MovieFeature)}
    assert weights == {"genres": (1.0, True), "year": (0.3, False)}
    assert [name for name, one in SIDE_FEATURES.items() if one.owner == "user"] == ["gender", "age", "occupation"]


def test_a_toy_user_feature_becomes_codes(prepared, side_features, tmp_path):
    run = Run(tmp_path / "run")
    write_users_with_zip_codes(prepared, run)
    assert prepare(run, "random-split", PrepareSettings(), quiet)
    folder = run.features / "random-split"
    codes = pd.read_parquet(folder / "side" / "user_features.parquet")
    assert list(codes.columns) == ["user_index", "zip_code"]
    assert load_schema(folder)["zip_code"].int_domain.max == FIRST_INDEX + 2 - 1
    users = pd.read_parquet(run.tables / "users.parquet").set_index(RAW_USER)
    ids = pd.read_parquet(folder / "vocabulary" / "user_id.parquet")["user_id"]
    expected = users.loc[ids, "zip_code"].to_numpy()
    found = codes["zip_code"][FIRST_INDEX:].to_numpy()
    assert set(found) == {1, FIRST_INDEX, FIRST_INDEX + 1}
    assert ((found == 1) == pd.isna(expected)).all()
    assert len(set(zip(found.tolist(), np.where(pd.isna(expected), "", expected).tolist()))) == 3


def write_users_with_zip_codes(prepared: Run, run: Run) -> None:
    """The tables of `prepared`; a third of the users live at 10001, a third at 94043, of the others it is unknown."""
    with new_folder(run.tables, "zip codes", dataset="toy") as out:
        for name in ("ratings", "movies"):
            pq.write_table(pq.read_table(prepared.tables / f"{name}.parquet"), out / f"{name}.parquet")
        users = pq.read_table(prepared.tables / "users.parquet")
        codes = [("10001", "94043", None)[row % 3] for row in range(len(users))]
        pq.write_table(users.append_column("zip_code", pa.array(codes)), out / "users.parquet")


# -- fingerprints ------------------------------------------------------------------------------------------------------


def test_an_added_side_feature_makes_the_features_out_of_date(prepared, tmp_path):
    run = copied_tables(prepared, tmp_path)
    assert prepare(run, "random-split", PrepareSettings(), quiet)
    SIDE_FEATURES.add("title", TitleLength())
    try:
        assert prepare(run, "random-split", PrepareSettings(), quiet)
        assert not prepare(run, "random-split", PrepareSettings(), quiet)
    finally:
        SIDE_FEATURES.remove("title")
    assert prepare(run, "random-split", PrepareSettings(), quiet)


def test_the_name_and_the_file_of_an_added_entry_count(tmp_path, monkeypatch):
    def code(**entries) -> str:
        return stage_code(("workflows/features",), (), entries)

    assert code(genres=SIDE_FEATURES["genres"]) == code()
    file = tmp_path / "added.py"
    file.write_text("class Added:\n    weight = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    added = importlib.import_module("added").Added
    first = code(one=added())
    assert len({code(), first, code(two=added())}) == 3
    genres = SIDE_FEATURES["genres"]
    assert code(one=added(), genres=genres) != code(genres=genres, one=added())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("from workflows.sources.datasets import DATASETS; list(DATASETS)", {"numpy", "pandas", "pyarrow", "merlin"}),
        ("from workflows.splits.base import SPLITS; list(SPLITS)", {"pandas", "merlin", "nvtabular", "dask"}),
        ("from workflows.sources.fetch import LAYOUTS; list(LAYOUTS)", {"merlin", "nvtabular", "dask", "numba"}),
        ("from workflows.features.prepare import SIDE_FEATURES; list(SIDE_FEATURES)", {"merlin", "nvtabular", "dask"}),
    ],
    ids=["datasets", "splits", "layouts", "side features"],
)
def test_a_registry_is_listed_without_heavy_libraries(code, absent):
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert not absent & set(result.stdout.split())


def test_without_tables_prepare_says_so_before_it_imports_merlin(tmp_path):
    code = f"""
import pathlib, sys
from core.errors import UserError
from core.run_folder import Run
from workflows.features.prepare import PrepareSettings, prepare
try:
    prepare(Run(pathlib.Path({str(tmp_path)!r}) / "ml-1m"), "leave-one-out", PrepareSettings(), print)
except UserError as error:
    print(error)
print("merlin" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    message, imported = result.stdout.splitlines()
    assert "python -m marquee fetch --dataset ml-1m" in message
    assert imported == "False"


def test_a_layouts_functions_decide_where_it_is_from():
    assert stage_code(("workflows/sources",), (), LAYOUTS) == stage_code(("workflows/sources",), ())
    assert stage_code(("workflows/sources",), (), {"toy": TOY_LAYOUT}) != stage_code(("workflows/sources",), ())


def test_a_splits_functions_decide_where_it_is_from():
    rooms = ("workflows/splits",)
    assert stage_code(rooms, (), SPLITS) == stage_code(rooms, ())
    assert stage_code(rooms, (), {"by-time": TestToySplit.entry}) != stage_code(rooms, ())
