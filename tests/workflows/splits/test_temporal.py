"""The split at one moment for everyone: by hand, its properties on drawn ratings, and the questions made of it."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifacts import new_folder
from core.columns import LATER, MOVIE_INDEX, NEGATIVES, TIMESTAMP, USER_INDEX
from core.errors import UserError
from core.run_folder import Run
from tests.contracts.splits import SplitContract
from workflows.features.prepare import PrepareSettings, prepare
from workflows.splits.base import PARTS, read_split
from workflows.splits.temporal import temporal

TIMES = st.lists(st.integers(0, 40), min_size=1, max_size=120)


class TestTemporal(SplitContract):
    name = "temporal"
    uses_chance = False

    def test_a_user_is_asked_about_once_and_about_the_first_movie_of_the_part(self, run):
        folder = run.features / self.name
        everything = [read_split(folder, part, [USER_INDEX, MOVIE_INDEX]).to_pandas() for part in PARTS]
        rated = {pair for rows in everything for pair in zip(rows[USER_INDEX], rows[MOVIE_INDEX])}
        several = 0
        for part in ("valid", "test"):
            rows = read_split(folder, part, [USER_INDEX, MOVIE_INDEX, LATER, TIMESTAMP]).to_pandas()
            several += len(rows) > rows[USER_INDEX].nunique()
            first = rows.sort_values([USER_INDEX, LATER], ascending=[True, False]).groupby(USER_INDEX).first()
            assert (first[TIMESTAMP] == rows.groupby(USER_INDEX)[TIMESTAMP].min()).all()
            asked = pq.read_table(folder / f"candidates-{part}.parquet").to_pandas()
            assert asked[USER_INDEX].tolist() == first.index.tolist()
            assert asked[MOVIE_INDEX].tolist() == first[MOVIE_INDEX].tolist()
            for user, negatives in zip(asked[USER_INDEX], asked[NEGATIVES]):
                assert not {(user, movie) for movie in negatives} & rated
        assert several == 2


def parts(timestamp) -> dict[str, list[int]]:
    split = temporal(np.array(timestamp, np.int64))
    return {name: split.rows(name).tolist() for name in PARTS}


def test_by_hand():
    assert parts([19, 10, 18, 11, 17, 12, 16, 13, 15, 14]) == {
        "train": [1, 3, 4, 5, 6, 7, 8, 9],
        "valid": [2],
        "test": [0],
    }


def test_a_rating_at_exactly_t1_validates_and_one_at_exactly_t2_tests():
    """t1 is 5, the time of the ninth of ten; with t2 at 9, all three of the time 5 are in one part."""
    assert parts([1, 1, 2, 2, 3, 3, 5, 5, 5, 9]) == {"train": [0, 1, 2, 3, 4, 5], "valid": [6, 7, 8], "test": [9]}
    assert parts([1, 1, 2, 2, 3, 3, 4, 5, 9, 9]) == {"train": [0, 1, 2, 3, 4, 5, 6, 7], "valid": [], "test": [8, 9]}


@settings(deadline=None, max_examples=200)
@given(TIMES)
def test_every_rating_is_in_one_part_and_no_second_is_in_two(times):
    timestamp = np.array(times)
    found = [timestamp[rows] for rows in parts(times).values()]
    assert sorted(np.concatenate(found)) == sorted(times)
    there = [one for one in found if len(one)]
    for earlier, later in pairwise(there):
        assert earlier.max() < later.min()


@settings(deadline=None, max_examples=200)
@given(TIMES)
def test_shares_are_80_10_10_but_for_the_ratings_that_share_a_second_with_the_border(times):
    timestamp = np.array(times)
    found = parts(times)
    before = 0
    for part, share in (("train", 0.8), ("valid", 0.9)):
        before += len(found[part])
        wanted = int(share * len(times))
        border = timestamp[np.argsort(timestamp, kind="stable")[wanted]]
        assert before <= wanted < before + (timestamp == border).sum()


@settings(deadline=None, max_examples=100)
@given(st.integers(10, 300), st.integers(0, 2**32 - 1))
def test_without_ties_the_shares_are_exact(count, seed):
    split = temporal(np.random.default_rng(seed).permutation(count))
    sizes = [len(split.rows(part)) for part in PARTS]
    assert sizes == [int(0.8 * count), int(0.9 * count) - int(0.8 * count), count - int(0.9 * count)]


@settings(deadline=None, max_examples=100)
@given(TIMES, st.integers(0, 2**32 - 1))
def test_a_permutation_of_the_rows_permutes_the_parts(times, seed):
    timestamp, order = np.array(times), np.random.default_rng(seed).permutation(len(times))
    np.testing.assert_array_equal(temporal(timestamp[order]).part, temporal(timestamp).part[order])


@pytest.mark.parametrize(
    ("times", "empty"),
    [([7] * 12, "train"), ([1, 1, 2, 2, 3, 3, 4, 5, 9, 9], "valid")],
    ids=["one second", "none between the borders"],
)
def test_an_empty_part_is_refused_in_one_line(tmp_path, times, empty):
    run = Run(tmp_path / "ml-1m")
    count = len(times)
    columns = {"userId": pa.array([1] * count, pa.int32()), "movieId": pa.array(range(count), pa.int32())}
    columns |= {"rating": pa.array([3.0] * count, pa.float32()), "timestamp": pa.array(times, pa.int64())}
    with new_folder(run.tables, "made up", dataset="ml-1m") as out:
        pq.write_table(pa.table(columns), out / "ratings.parquet")
        pq.write_table(
            pa.table({"movieId": columns["movieId"], "title": ["x"] * count, "year": [0] * count}),
            out / "movies.parquet",
        )
        pq.write_table(pa.table({"userId": columns["userId"][:1]}), out / "users.parquet")
    with pytest.raises(UserError) as caught:
        prepare(run, "temporal", PrepareSettings(), lambda *_: None)
    assert str(caught.value) == (
        f"ml-1m, temporal: the {empty} split is empty; the dataset is too small (this split needs ten ratings at "
        "different times)"
    )
    assert not (run.features / "temporal").exists()
