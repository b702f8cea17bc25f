"""What `prepare` writes, against the tables it was made from; and that it is whole, repeatable and without leaks."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from merlin.io import Dataset
from merlin.schema import Tags

from core.artifacts import verify
from core.errors import UserError
from core.run_folder import Run
from tests.conftest import write_movielens
from tests.names import DEFAULT_PROTOCOLS
from workflows.features.prepare import PREPARE_STEPS, PrepareSettings, prepare
from workflows.features.saved import load_workflow
from workflows.features.schema import load_schema
from workflows.features.statistics import fold_statistics
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.splits.base import PARTS, TimeOrder, read_split, split_files
from workflows.splits.leave_one_out import leave_one_out

COLUMNS = ["user_index", "movie_index", "rating", "timestamp", "label", "fold", "later", "not_before"]
KINDS = (("user_id", "userId"), ("movie_id", "movieId"))


def quiet(*_) -> None:
    pass


def tables_of(folder: Path, files: dict[str, str], dataset: str = "ml-1m") -> Run:
    """A run with the tables of these raw files, not prepared."""
    (folder / "raw").mkdir(parents=True)
    for name, text in files.items():
        (folder / "raw" / name).write_text(text)
    run = Run(folder / "run")
    fetch_tables(get_dataset(dataset), folder / "raw", run.tables, quiet)
    return run


def unprepared(prepared: Run, folder: Path) -> Run:
    """The tables of `prepared` in a run folder of its own."""
    run = Run(folder / prepared.root.name)
    shutil.copytree(prepared.tables, run.tables)
    return run


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.tables / f"{name}.parquet")


def vocabulary(run: Run, protocol: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.features / protocol / "vocabulary" / f"{name}.parquet")


def side(run: Run, protocol: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.features / protocol / "side" / f"{name}.parquet")


def details(run: Run, protocol: str) -> dict:
    return json.loads((run.features / protocol / "features.json").read_text())


def splits(run: Run, protocol: str) -> dict[str, pd.DataFrame]:
    return {part: read_split(run.features / protocol, part, COLUMNS).to_pandas() for part in PARTS}


def raw_rows(run: Run, protocol: str, frame: pd.DataFrame) -> list[tuple]:
    """(userId, movieId, rating, timestamp) of a split's rows, their indices looked up in the vocabularies."""
    ids = [vocabulary(run, protocol, name).set_index("index")[name] for name, _ in KINDS]
    users, movies = ids[0].loc[frame["user_index"]], ids[1].loc[frame["movie_index"]]
    return list(zip(users, movies, frame["rating"], frame["timestamp"]))


def table_rows(ratings: pd.DataFrame) -> list[tuple]:
    return list(zip(*(ratings[name] for name in ("userId", "movieId", "rating", "timestamp"))))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Run:
    """So many movies that every user has more than 99 unseen ones, prepared for leave-one-out."""
    folder = tmp_path_factory.mktemp("wide")
    run = Run(folder / "run")
    fetch_tables(get_dataset("ml-latest-small"), write_movielens(folder / "raw", 25, 220, seed=3), run.tables, quiet)
    prepare(run, "leave-one-out", PrepareSettings(), quiet)
    return run


@pytest.fixture(scope="module")
def thresholded(wide, tmp_path_factory) -> Run:
    """The same tables, ids with fewer than 5 training ratings left out of the vocabularies."""
    run = unprepared(wide, tmp_path_factory.mktemp("thresholded"))
    for protocol in DEFAULT_PROTOCOLS:
        prepare(run, protocol, PrepareSettings(freq_threshold=5), quiet)
    return run


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> Run:
    """ML-1M's layout with user details: 8 users, the last without a line in users.dat."""
    ages = [1, 18, 24, 25, 35, 50, 56]
    files = {
        "ratings.dat": "".join(f"{u}::{m}::{1 + (u * m) % 5}::{m}\n" for u in range(1, 9) for m in range(1, 8)),
        "movies.dat": "".join(f"{m}::Movie {m} (199{m})::Drama|War\n" for m in range(1, 8)),
        "users.dat": "".join(f"{u}::{'FM'[u % 2]}::{age}::{u % 3}::1\n" for u, age in enumerate(ages, 1)),
    }
    run = tables_of(tmp_path_factory.mktemp("described"), files)
    prepare(run, "leave-one-out", PrepareSettings(), quiet)
    return run


# -- vocabularies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "raw"), KINDS)
@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("threshold", [1, 5])
def test_vocabulary_order_and_flags(prepared, thresholded, protocol, name, raw, threshold):
    run = prepared if threshold == 1 else thresholded
    train = raw_rows(run, protocol, splits(run, protocol)["train"])
    counts = Counter(row[0 if raw == "userId" else 1] for row in train)
    rated = set(table(run, "ratings")[raw])
    catalogue = set(table(run, "users" if raw == "userId" else "movies")[raw])
    known = sorted((one for one in rated if counts[one] >= threshold), key=lambda one: (-counts[one], one))
    expected = known + sorted(rated - set(known)) + sorted(catalogue - rated)
    found = vocabulary(run, protocol, name)
    assert found[name].tolist() == expected
    assert found["index"].tolist() == list(range(FIRST_INDEX, FIRST_INDEX + len(expected)))
    assert found["ratings"].tolist() == [counts[one] for one in expected]
    assert found["known"].tolist() == [counts[one] >= threshold for one in expected]
    assert found["rated"].tolist() == [one in rated for one in expected]
    assert details(run, protocol)[name] == {
        "embeddings": FIRST_INDEX + len(known),
        "rows": FIRST_INDEX + len(expected),
        "rated": len(rated),
    }


def test_a_threshold_leaves_some_movies_out_and_keeps_others(thresholded):
    found = vocabulary(thresholded, "leave-one-out", "movie_id")
    assert 0 < found["known"].sum() < found["rated"].sum() < len(found)


def test_leave_one_out_train_counts_by_hand(tmp_path):
    ratings = ["1::7::4::1", "1::5::4::2", "1::9::4::3", "1::8::4::4", "2::9::3::1", "2::5::3::2", "2::7::3::3"]
    movies = "".join(f"{movie}::Movie (2000)::Drama\n" for movie in (3, 5, 7, 8, 9))
    run = tables_of(tmp_path, {"ratings.dat": "\n".join(ratings) + "\n", "movies.dat": movies})
    prepare(run, "leave-one-out", PrepareSettings(), quiet)
    # In training: (1, 7), (1, 5) and (2, 9). Movie 8 is only tested, movie 3 never rated.
    found = vocabulary(run, "leave-one-out", "movie_id")
    assert found["movie_id"].tolist() == [5, 7, 9, 8, 3]
    assert found["ratings"].tolist() == [1, 1, 1, 0, 0]
    assert found["known"].tolist() == [True, True, True, False, False]
    assert found["rated"].tolist() == [True, True, True, True, False]
    assert vocabulary(run, "leave-one-out", "user_id")["user_id"].tolist() == [1, 2]
    train, valid, test = splits(run, "leave-one-out").values()
    assert sorted(zip(train["user_index"], train["movie_index"])) == [(3, 3), (3, 4), (4, 5)]
    assert sorted(zip(valid["user_index"], valid["movie_index"])) == [(3, 5), (4, 3)]
    assert sorted(zip(test["user_index"], test["movie_index"])) == [(3, 6), (4, 4)]


# -- splits ------------------------------------------------------------------------------------------------------------


def test_leave_one_out_rows_map_back_to_the_ratings(prepared):
    ratings = table(prepared, "ratings")
    split = leave_one_out(TimeOrder.of(ratings["userId"].to_numpy(), ratings["timestamp"].to_numpy()))
    for part, frame in splits(prepared, "leave-one-out").items():
        expected = table_rows(ratings.iloc[split.rows(part)])
        assert raw_rows(prepared, "leave-one-out", frame) == expected


def test_random_split_rows_map_back_to_the_ratings(prepared):
    ratings = table(prepared, "ratings")
    found = {part: raw_rows(prepared, "random-split", rows) for part, rows in splits(prepared, "random-split").items()}
    assert sorted([*found["train"], *found["valid"], *found["test"]]) == sorted(table_rows(ratings))
    tests = round(0.2 * len(ratings))
    assert len(found["test"]) == tests
    assert len(found["valid"]) == round(0.1 * (len(ratings) - tests))


def test_labels_are_whether_rated_or_whether_liked(prepared):
    for frame in splits(prepared, "leave-one-out").values():
        assert (frame["label"] == 1).all()
    for frame in splits(prepared, "random-split").values():
        np.testing.assert_array_equal(frame["label"], np.where(frame["rating"] > 3, 1, 0))
        assert set(frame["label"]) == {0, 1}
    stars = pd.concat(splits(prepared, "random-split").values())
    assert (stars["label"][stars["rating"] == 3] == 0).all()
    assert (stars["label"][stars["rating"] == 3.5] == 1).all()


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_no_pair_of_user_and_movie_is_in_two_splits(prepared, protocol):
    together = pd.concat(splits(prepared, protocol).values())
    assert not together.duplicated(["user_index", "movie_index"]).any()


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_training_rows_have_folds_and_the_others_the_one_over_all(prepared, protocol):
    train, valid, test = splits(prepared, protocol).values()
    assert set(train["fold"]) == set(range(FOLDS))
    assert np.bincount(train["fold"]).min() > 0.7 * len(train) / FOLDS
    assert set(valid["fold"]) == set(test["fold"]) == {FOLDS}


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_later_counts_the_users_ratings_of_any_split_after_each(prepared, protocol):
    place = {row: number for number, row in enumerate(table_rows(table(prepared, "ratings")))}  # which breaks ties
    together = pd.concat(splits(prepared, protocol))
    together["place"] = [place[row] for row in raw_rows(prepared, protocol, together)]
    for _, rows in together.groupby("user_index"):
        newest_first = rows.sort_values(["timestamp", "place"])[::-1]
        assert newest_first["later"].tolist() == list(range(len(rows)))
        second = rows["timestamp"].to_numpy()
        assert rows["not_before"].tolist() == [(second >= one).sum() - 1 for one in second]


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("source", ["prepared", "wide"])
def test_candidates_are_different_rated_movies_that_the_user_has_not_rated(request, source, part):
    run = request.getfixturevalue(source)
    parts = splits(run, "leave-one-out")
    seen = pd.concat(parts.values()).groupby("user_index")["movie_index"].agg(set)
    rated = set(vocabulary(run, "leave-one-out", "movie_id").query("rated")["index"])
    candidates = pd.read_parquet(run.features / "leave-one-out" / f"candidates-{part}.parquet")
    assert sorted(zip(candidates["user_index"], candidates["movie_index"])) == sorted(
        zip(parts[part]["user_index"], parts[part]["movie_index"])
    )
    for user, negatives in zip(candidates["user_index"], candidates["negatives"]):
        drawn = [movie for movie in negatives.tolist() if movie != -1]
        unseen = rated - seen[user]
        assert len(negatives) == 99
        assert len(drawn) == len(set(drawn)) == min(99, len(unseen))
        assert set(drawn) <= unseen


def test_both_ways_to_have_too_few_and_enough_unseen_movies_are_covered(prepared, wide):
    few = pd.read_parquet(prepared.features / "leave-one-out" / "candidates-test.parquet")
    enough = pd.read_parquet(wide.features / "leave-one-out" / "candidates-test.parquet")
    assert any((negatives == -1).any() for negatives in few["negatives"])
    assert not any((negatives == -1).any() for negatives in enough["negatives"])


def test_random_split_has_no_candidates(prepared):
    assert not list((prepared.features / "random-split").glob("candidates-*"))


# -- statistics by fold ------------------------------------------------------------------------------------------------


def by_fold(rows: pd.DataFrame, entities: int) -> np.ndarray:
    """Number, stars and seconds of the ratings of each fold and entity."""
    sums = np.zeros((3, FOLDS, entities))
    for one in rows.itertuples():
        sums[:, one.fold, one.entity] += 1, one.rating, one.timestamp
    return sums


def test_fold_statistics_by_hand():
    rows = pd.DataFrame(
        [(0, 0, 4.0, 90), (0, 0, 6.0, 110), (0, 1, 3.0, 60), (1, 1, 1.5, 30), (1, 1, 2.5, 50)],
        columns=["entity", "fold", "rating", "timestamp"],
    )
    found = fold_statistics(by_fold(rows, 3))
    assert found.shape == (FOLDS + 1, 3, 3)
    assert found.dtype == np.float32
    # Over all: 3 and 2 ratings, 13 and 4 stars, 260 and 80 seconds; the means of all are 17 / 5 and 340 / 5.
    popularity = np.log([4, 3, 1])
    stars = np.array([(13 + 10 * 3.4) / 13, (4 + 10 * 3.4) / 12, 3.4])
    seconds = np.array([(260 + 10 * 68) / 13, (80 + 10 * 68) / 12, 68])
    everything = np.stack([popularity, stars, seconds], axis=1)
    # Entity 2 has no rating, so the first two standardise: of two values the mean is the middle, the spread half of
    # their distance.
    middle = (everything[0] + everything[1]) / 2
    half = np.abs(everything[0] - everything[1]) / 2
    np.testing.assert_allclose(found[FOLDS], (everything - middle) / half, rtol=1e-4)
    np.testing.assert_allclose(found[FOLDS, :2], [[1, 1, 1], [-1, -1, -1]], rtol=1e-5)
    for fold in (2, 3, 4):  # without ratings, so nothing is left out
        np.testing.assert_array_equal(found[fold], found[FOLDS])


def statistics_around_a_change(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Statistics of drawn ratings, the same after one rating has changed, and the fold of that rating."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"entity": rng.integers(0, 6, 80), "fold": rng.integers(0, FOLDS, 80)})
    rows["rating"], rows["timestamp"] = rng.integers(1, 11, 80) / 2, rng.integers(0, 1000, 80)
    before = fold_statistics(by_fold(rows, 7))
    own = int(rng.integers(0, 80))
    rows.loc[own, "rating"] = 5.5 - rows.loc[own, "rating"]
    return before, fold_statistics(by_fold(rows, 7)), int(rows.loc[own, "fold"])


@pytest.mark.parametrize("seed", range(5))
def test_statistics_do_not_contain_the_rows_own_rating(seed):
    before, after, fold = statistics_around_a_change(seed)
    np.testing.assert_array_equal(after[fold], before[fold])
    assert (after[FOLDS] != before[FOLDS]).any()


@pytest.mark.parametrize("seed", range(5))
def test_between_entities_statistics_do_not_reveal_the_rows_own_rating(seed):
    """As above, whatever common shift and scale the standardisation gives to all entities."""
    before, after, fold = statistics_around_a_change(seed)
    np.testing.assert_allclose(between(after[fold]), between(before[fold]), atol=1e-4)
    assert np.abs(between(after[FOLDS]) - between(before[FOLDS])).max() > 1e-3


def between(statistics: np.ndarray) -> np.ndarray:
    """Each column from 0 at its lowest to 1 at its highest."""
    low, high = statistics.min(axis=0), statistics.max(axis=0)
    return (statistics - low) / (high - low)


@pytest.mark.parametrize("kind", ["movie", "user"])
@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_written_statistics_count_the_training_ratings_without_each_fold(prepared, protocol, kind):
    train = splits(prepared, protocol)["train"]
    found = side(prepared, protocol, f"{kind}_statistics")
    rows = details(prepared, protocol)[f"{kind}_id"]["rows"]
    assert len(found) == (FOLDS + 1) * rows
    for fold in range(FOLDS + 1):
        counts = np.bincount(train.loc[train["fold"] != fold, f"{kind}_index"], minlength=rows)
        popularity = found[found["fold"] == fold].set_index(f"{kind}_index")[f"{kind}_popularity"]
        assert popularity.index.tolist() == list(range(rows))
        order = np.argsort(counts, kind="stable")
        steps, rises = np.diff(counts[order]), np.diff(popularity.to_numpy()[order])
        assert (rises[steps > 0] > 0).all()
        np.testing.assert_allclose(rises[steps == 0], 0, atol=1e-6)


def test_written_statistics_of_all_rated_are_standardised(prepared):
    found = side(prepared, "leave-one-out", "movie_statistics").query("fold == @FOLDS").set_index("movie_index")
    counts = splits(prepared, "leave-one-out")["train"]["movie_index"].value_counts()
    rated = found.loc[counts.index, ["movie_popularity", "movie_mean_rating", "movie_mean_time"]].to_numpy()
    np.testing.assert_allclose(rated.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rated.std(axis=0), 1, atol=1e-4)


# -- side tables and schema --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_genres_are_those_of_the_movies_table(prepared, protocol):
    features = side(prepared, protocol, "movie_features").set_index("movie_index")
    movies = table(prepared, "movies").set_index("movieId")
    names = [name for name in features.columns if name.startswith("genre_")]
    assert names == ["genre_Action", "genre_Comedy", "genre_Drama", "genre_Film-Noir", "genre_Sci-Fi"]
    assert features.index.tolist() == list(range(FIRST_INDEX + len(movies)))
    assert not features.loc[: FIRST_INDEX - 1].to_numpy().any()
    for movie, index in vocabulary(prepared, protocol, "movie_id")[["movie_id", "index"]].itertuples(index=False):
        hot = {name for name in names if features.loc[index, name] == 1}
        assert hot == {f"genre_{genre}" for genre in movies.loc[movie, "genres"]}
        assert features.loc[index, names].isin([0, 1]).all()


def test_years_are_standardised_and_0_where_unknown(prepared):
    features = side(prepared, "leave-one-out", "movie_features").set_index("movie_index")
    movies = table(prepared, "movies").set_index("movieId")
    index = vocabulary(prepared, "leave-one-out", "movie_id").set_index("movie_id")["index"]
    year = movies["year"].astype(float)
    known = year[year > 0]
    assert len(known) == len(year) - 1
    found = features["year"].loc[index.loc[known.index]].to_numpy()
    np.testing.assert_allclose(found, (known - known.mean()) / known.std(), atol=0.02)
    assert features["year"].loc[index.loc[year[year == 0].index]].tolist() == [0]


def test_movies_without_any_genre_still_prepare(tmp_path):
    files = {
        "ratings.dat": "".join(f"{u}::{m}::4::{m}\n" for u in (1, 2) for m in (1, 2, 3)),
        "movies.dat": "".join(f"{m}::Movie {m} (199{m})::(no genres listed)\n" for m in (1, 2, 3)),
    }
    run = tables_of(tmp_path, files)
    prepare(run, "leave-one-out", PrepareSettings(), quiet)
    assert side(run, "leave-one-out", "movie_features").columns.tolist() == ["movie_index", "year"]


def test_user_details_become_codes(described):
    features = side(described, "leave-one-out", "user_features").set_index("user_index")
    index = vocabulary(described, "leave-one-out", "user_id").set_index("user_id")["index"]
    codes = features.loc[index.loc[range(1, 8)]]
    assert (codes >= FIRST_INDEX).all(axis=None)
    # Users 1 to 7: F is 2, 4, 6; occupation is u % 3; the ages 18 and 24 are one group.
    assert same_code(codes["gender"]) == [{1, 3, 5, 7}, {2, 4, 6}]
    assert same_code(codes["occupation"]) == [{1, 4, 7}, {2, 5}, {3, 6}]
    assert same_code(codes["age"]) == [{1}, {2, 3}, {4}, {5}, {6}, {7}]
    assert (features.loc[: FIRST_INDEX - 1] == 2).all(axis=None)


def same_code(codes: pd.Series) -> list[set[int]]:
    """The users 1, 2, ... that share a code."""
    by_code: dict[int, set[int]] = {}
    for user, code in enumerate(codes, 1):
        by_code.setdefault(code, set()).add(user)
    return list(by_code.values())


@pytest.mark.parametrize("detail", ["gender", "age", "occupation"])
def test_an_unknown_user_detail_is_the_code_of_null(described, detail):
    features = side(described, "leave-one-out", "user_features").set_index("user_index")
    index = vocabulary(described, "leave-one-out", "user_id").set_index("user_id")["index"]
    assert features.loc[index[8], detail] == 1


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_schema_has_tags_and_cardinalities(thresholded, protocol):
    schema = load_schema(thresholded.features / protocol)
    known = details(thresholded, protocol)
    assert schema.column_names == ["user_id", "movie_id", "continuous", "label"]
    assert schema.select_by_tag(Tags.USER_ID).column_names == ["user_id"]
    assert schema.select_by_tag(Tags.ITEM_ID).column_names == ["movie_id"]
    assert schema.select_by_tag(Tags.USER).column_names == ["user_id"]
    assert schema.select_by_tag(Tags.ITEM).column_names == ["movie_id"]
    assert schema.select_by_tag(Tags.CATEGORICAL).column_names == ["user_id", "movie_id"]
    assert schema.select_by_tag(Tags.CONTINUOUS).column_names == ["continuous"]
    assert schema.select_by_tag(Tags.TARGET).column_names == ["label"]
    assert schema.select_by_tag(Tags.BINARY_CLASSIFICATION).column_names == ["label"]
    for name in ("user_id", "movie_id"):
        assert schema[name].int_domain.min == 0
        assert schema[name].int_domain.max == known[name]["embeddings"] - 1
    assert schema["continuous"].value_count.max == len(known["continuous"])


def test_continuous_names_are_columns_of_the_side_tables(prepared):
    tables = ("movie_features", "movie_statistics", "user_statistics")
    columns = {name for one in tables for name in side(prepared, "leave-one-out", one).columns}
    names = details(prepared, "leave-one-out")["continuous"]
    assert len(names) == len(set(names)) == 5 + 1 + 3 + 3
    assert set(names) == columns - {"fold", "movie_index", "user_index"}


def test_schema_of_user_details(described):
    schema = load_schema(described.features / "leave-one-out")
    assert schema.select_by_tag(Tags.USER).column_names == ["user_id", "gender", "age", "occupation"]
    features = side(described, "leave-one-out", "user_features")
    for name, codes in (("gender", 2), ("occupation", 3)):
        assert schema[name].int_domain.max == FIRST_INDEX + codes - 1
    for name in ("gender", "age", "occupation"):
        assert features[name].max() <= schema[name].int_domain.max


# -- the saved workflow ------------------------------------------------------------------------------------------------


@pytest.fixture
def workflow_copy(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared.features / "leave-one-out" / "workflow" / "interactions", tmp_path / "copy"))


def test_a_loaded_workflow_maps_ids_as_the_vocabulary_and_unknown_ones_to_2(prepared, workflow_copy):
    users, movies = (vocabulary(prepared, "leave-one-out", name) for name, _ in KINDS)
    frame = pd.DataFrame(
        {
            "userId": np.array([users["user_id"][7], 2, users["user_id"][0]], np.int32),
            "movieId": np.array([movies["movie_id"].iloc[-1], movies["movie_id"][0], 999_999], np.int32),
        }
    )
    workflow = load_workflow(workflow_copy)
    for name in workflow.input_schema.column_names:
        if name not in frame.columns:
            frame[name] = np.array([1, 2, 4], workflow.input_schema[name].dtype.to_numpy)
    found = workflow.transform(Dataset(frame)).to_ddf().compute()
    assert found["user_index"].tolist() == [users["index"][7], 2, users["index"][0]]
    assert found["movie_index"].tolist() == [movies["index"].iloc[-1], movies["index"][0], 2]


@pytest.mark.parametrize("name", ["workflow.pkl", "metadata.json", "categories/unique.movieId.parquet"])
def test_a_workflow_with_a_changed_file_is_not_loaded(workflow_copy, name):
    content = bytearray((workflow_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (workflow_copy / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_workflow(workflow_copy)
    assert str(workflow_copy / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_workflow_with_a_file_more_or_without_manifest_is_not_loaded(workflow_copy):
    (workflow_copy / "extra.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"extra\.pkl"):
        load_workflow(workflow_copy)
    (workflow_copy / "extra.pkl").unlink()
    (workflow_copy / "manifest.json").unlink()
    with pytest.raises(UserError):
        load_workflow(workflow_copy)


# -- whole, repeatable -------------------------------------------------------------------------------------------------


def test_prepare_again_has_nothing_to_do(prepared, tmp_path):
    run = unprepared(prepared, tmp_path)
    reported: list[tuple] = []
    assert prepare(run, "random-split", PrepareSettings(), lambda *step: reported.append(step)) is True
    assert [name for _, name in reported if name] == list(PREPARE_STEPS)
    assert sum(by for by, _ in reported) == pytest.approx(len(PREPARE_STEPS))
    before, steps = (run.features / "random-split" / "manifest.json").stat().st_mtime_ns, len(reported)
    assert prepare(run, "random-split", PrepareSettings(), lambda *step: reported.append(step)) is False
    assert len(reported) == steps
    assert (run.features / "random-split" / "manifest.json").stat().st_mtime_ns == before


def test_other_settings_or_a_changed_file_are_prepared_again(prepared, tmp_path):
    run = Run(Path(shutil.copytree(prepared.root, tmp_path / "run")))
    assert prepare(run, "leave-one-out", PrepareSettings(freq_threshold=2), quiet)
    assert prepare(run, "leave-one-out", PrepareSettings(freq_threshold=2), quiet) is False
    with open(run.features / "leave-one-out" / "candidates-test.parquet", "ab") as file:
        file.write(b"x")
    assert prepare(run, "leave-one-out", PrepareSettings(freq_threshold=2), quiet)
    verify(run.features / "leave-one-out")


def test_what_a_killed_prepare_left_is_removed_and_not_taken_for_whole(prepared, tmp_path):
    run = unprepared(prepared, tmp_path)
    left_over = run.features / ".leave-one-out.partial-123"
    shutil.copytree(prepared.features / "leave-one-out", left_over)
    (left_over / "candidates-test.parquet").unlink()
    with pytest.raises(UserError):
        verify(run.features / "leave-one-out")
    assert prepare(run, "leave-one-out", PrepareSettings(), quiet) is True
    assert [path.name for path in run.features.iterdir()] == ["leave-one-out"]
    verify(run.features / "leave-one-out")


@pytest.mark.parametrize("step", PREPARE_STEPS)
def test_a_prepare_that_is_interrupted_leaves_nothing(prepared, tmp_path, step):
    def interrupt(_by, name: str) -> None:
        if name == step:
            raise KeyboardInterrupt

    run = unprepared(prepared, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare(run, "leave-one-out", PrepareSettings(), interrupt)
    assert not run.features.exists()


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_the_same_seed_writes_the_same(prepared, tmp_path, protocol):
    again = unprepared(prepared, tmp_path)
    prepare(again, protocol, PrepareSettings(), quiet)
    assert written(again, protocol) == written(prepared, protocol)
    for name in written(prepared, protocol):
        before, after = (pd.read_parquet(run.features / protocol / name) for run in (prepared, again))
        pd.testing.assert_frame_equal(after, before)


# -- more ratings than are read at once --------------------------------------------------------------------------------

FEW = 50  # rows at once


@pytest.fixture(scope="module")
def piecewise(prepared, tmp_path_factory) -> tuple[Run, dict[str, list[tuple[float, str]]]]:
    """The run of `prepared` from the same tables, few rows at a time, and what each protocol's progress reported."""
    run = unprepared(prepared, tmp_path_factory.mktemp("piecewise"))
    reported: dict[str, list[tuple[float, str]]] = {protocol: [] for protocol in DEFAULT_PROTOCOLS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflows.features.interactions.ROWS_AT_ONCE", FEW)
        for protocol in DEFAULT_PROTOCOLS:
            prepare(run, protocol, PrepareSettings(), lambda *step, to=reported[protocol]: to.append(step))
    return run, reported


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_the_same_rows_in_the_same_order_whatever_is_read_at_once(prepared, piecewise, protocol):
    run, _ = piecewise
    files = split_files(run.features / protocol, "train")
    assert len(files) > 10  # so that part_10 is there, which as a word goes before part_2
    assert len(split_files(prepared.features / protocol, "train")) == 1
    assert max(len(pd.read_parquet(path)) for path in files) < 2 * FEW
    before, after = splits(prepared, protocol), splits(run, protocol)
    for part in PARTS:
        pd.testing.assert_frame_equal(after[part], before[part])


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_everything_else_is_the_same_whatever_is_read_at_once(prepared, piecewise, protocol):
    run, _ = piecewise
    others = [name for name in written(prepared, protocol) if name.split("/")[0] not in PARTS]
    assert [name for name in written(run, protocol) if name.split("/")[0] not in PARTS] == others
    assert len(others) == 6 + 2 * (protocol == "leave-one-out")
    for name in others:
        before, after = (pd.read_parquet(one.features / protocol / name) for one in (prepared, run))
        pd.testing.assert_frame_equal(after, before)
    assert details(run, protocol) == details(prepared, protocol)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_progress_is_reported_in_fractions_that_add_up_to_the_steps(piecewise, protocol):
    run, reported = piecewise
    steps = reported[protocol]
    assert [name for _, name in steps if name] == list(PREPARE_STEPS)
    assert sum(by for by, _ in steps) == pytest.approx(len(PREPARE_STEPS))
    names = [name for _, name in steps]
    within = steps[names.index("vocabularies") + 1 : names.index("transform")]
    assert len(within) == sum(len(split_files(run.features / protocol, part)) for part in PARTS)
    assert sum(by for by, _ in within) == pytest.approx(1)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_only_what_is_read_later_is_kept(piecewise, protocol):
    folder = piecewise[0].features / protocol
    found = {path.name for path in folder.iterdir()}
    candidates = {f"candidates-{part}.parquet" for part in PARTS[1:]} if protocol == "leave-one-out" else set()
    folders = {*PARTS, "vocabulary", "side", "schema", "workflow"}
    assert found == {*folders, *candidates, "features.json", "manifest.json"}
    for part in PARTS:
        assert {path.name for path in (folder / part).iterdir()} == {
            *(path.name for path in split_files(folder, part)), "_metadata", ".merlin", "schema.pbtxt"
        }  # fmt: skip
    assert {path.name for path in folder.parent.iterdir()} == set(DEFAULT_PROTOCOLS)
    verify(folder)


# -- seeds and refusals ------------------------------------------------------------------------------------------------


def test_another_seed_gives_another_random_split(prepared, tmp_path):
    other = unprepared(prepared, tmp_path)
    prepare(other, "random-split", PrepareSettings(seed=1), quiet)
    for part in PARTS:
        before, after = (raw_rows(r, "random-split", splits(r, "random-split")[part]) for r in (prepared, other))
        assert len(after) == len(before)
        assert set(after) != set(before)


def test_another_seed_gives_other_candidates_and_folds_of_the_same_leave_one_out_split(wide, tmp_path):
    other = unprepared(wide, tmp_path)
    prepare(other, "leave-one-out", PrepareSettings(seed=1), quiet)
    before, after = splits(wide, "leave-one-out"), splits(other, "leave-one-out")
    for part in PARTS:
        assert raw_rows(other, "leave-one-out", after[part]) == raw_rows(wide, "leave-one-out", before[part])
    assert (after["train"]["fold"] != before["train"]["fold"]).any()
    for part in ("valid", "test"):
        drawn, others = (negatives_of(run, part) for run in (wide, other))
        assert drawn.shape == others.shape
        assert (drawn != others).any(axis=1).all()


def negatives_of(run: Run, part: str) -> np.ndarray:
    candidates = pd.read_parquet(run.features / "leave-one-out" / f"candidates-{part}.parquet")
    return np.stack(candidates["negatives"])


def written(run: Run, protocol: str) -> list[str]:
    """The Parquet files of a protocol's features, without the workflows' own."""
    folder = run.features / protocol
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.parquet"))]
    return [name for name in names if not name.startswith("workflow/")]


@pytest.mark.parametrize(
    ("protocol", "movies_each", "empty"),
    [("leave-one-out", 1, "valid"), ("leave-one-out", 2, "valid"), ("random-split", 1, "valid")],
)
def test_an_empty_split_is_refused_and_nothing_written(tmp_path, protocol, movies_each, empty):
    ratings = "".join(f"{u}::{m}::4::1\n" for u in (1, 2) for m in range(1, movies_each + 1))
    run = tables_of(tmp_path, {"ratings.dat": ratings, "movies.dat": "1::Heat (1995)::Drama\n"})
    with pytest.raises(UserError) as caught:
        prepare(run, protocol, PrepareSettings(), quiet)
    assert f"{empty} split is empty" in str(caught.value)
    assert protocol in str(caught.value)
    assert not list(run.features.glob("*"))


def test_prepare_needs_tables_and_a_known_protocol(prepared, tmp_path):
    with pytest.raises(UserError, match="tables"):
        prepare(Run(tmp_path / "run"), "leave-one-out", PrepareSettings(), quiet)
    with pytest.raises(UserError, match="leave-one-out, random-split"):
        prepare(prepared, "leave-two-out", PrepareSettings(), quiet)


def test_changed_tables_are_refused(prepared, tmp_path):
    run = unprepared(prepared, tmp_path)
    with open(run.tables / "ratings.parquet", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"ratings\.parquet has changed"):
        prepare(run, "leave-one-out", PrepareSettings(), quiet)


def test_a_threshold_that_is_never_reached_is_refused(prepared, tmp_path):
    run = Run(tmp_path / "ml-latest-small")
    shutil.copytree(prepared.tables, run.tables)
    with pytest.raises(UserError, match="--freq-threshold"):
        prepare(run, "leave-one-out", PrepareSettings(freq_threshold=10_000), lambda *_: None)
    assert not list(run.features.glob("*"))
