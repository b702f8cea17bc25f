"""The two protocols' splits: by hand on small cases, and their properties on drawn ones."""

from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from tests.contracts.splits import SplitContract
from workflows.splits.base import PARTS, UNUSED, Split, TimeOrder, read_split, split_files
from workflows.splits.leave_one_out import leave_one_out
from workflows.splits.random_split import random_split

RATINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=60)  # (user, timestamp)


class TestLeaveOneOut(SplitContract):
    name = "leave-one-out"
    uses_chance = False


class TestRandomSplit(SplitContract):
    name = "random-split"
    uses_chance = True


def parts(split: Split) -> dict[str, list[int]]:
    return {name: split.rows(name).tolist() for name in PARTS}


def times_of(user, timestamp) -> TimeOrder:
    return TimeOrder.of(np.array(user, np.int32), np.array(timestamp, np.int64))


def by_user(user, timestamp) -> dict[str, list[int]]:
    return parts(leave_one_out(times_of(user, timestamp)))


def test_the_last_rating_tests_and_the_one_before_validates():
    found = by_user([1, 2, 1, 2, 1, 2, 1], [40, 1, 10, 2, 30, 3, 20])
    assert found == {"train": [1, 2, 6], "valid": [3, 4], "test": [0, 5]}


def test_a_tie_in_time_goes_by_file_order():
    assert by_user([7, 7, 7, 7], [5, 5, 5, 5]) == {"train": [0, 1], "valid": [2], "test": [3]}
    assert by_user([7, 7, 7, 7], [5, 9, 9, 1]) == {"train": [0, 3], "valid": [1], "test": [2]}


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([3], {"train": [0], "valid": [], "test": []}),
        ([3, 2], {"train": [1], "valid": [], "test": [0]}),
        ([3, 2, 1], {"train": [2], "valid": [1], "test": [0]}),
    ],
    ids=["1 rating", "2 ratings", "3 ratings"],
)
def test_users_with_few_ratings(timestamps, expected):
    assert by_user([4] * len(timestamps), timestamps) == expected


def test_users_with_few_ratings_beside_each_other():
    found = by_user([9, 5, 9, 2, 9, 5], [1, 8, 2, 4, 3, 7])
    assert found == {"train": [0, 3, 5], "valid": [2], "test": [1, 4]}


def test_no_ratings_split_into_nothing():
    assert by_user([], []) == {"train": [], "valid": [], "test": []}


@settings(deadline=None, max_examples=60)
@given(RATINGS)
def test_leave_one_out_is_a_partition_in_time_order(rows):
    user, timestamp = (np.array(column, np.int64) for column in zip(*rows))
    split = leave_one_out(TimeOrder.of(user, timestamp))
    assert_partition(split, len(rows))
    time = list(zip(timestamp.tolist(), range(len(rows))))  # file order breaks ties
    for one in set(user.tolist()):
        train, valid, test = ([time[row] for row in split.rows(part) if user[row] == one] for part in PARTS)
        ratings = len(train) + len(valid) + len(test)
        assert (len(valid), len(test)) == (int(ratings >= 3), int(ratings >= 2))
        ordered = sorted(train) + valid + test
        assert ordered == sorted(ordered)


@settings(deadline=None, max_examples=60)
@given(RATINGS, st.integers(0, 2**32 - 1))
def test_leave_one_out_does_not_depend_on_the_names_of_users(rows, seed):
    user, timestamp = (np.array(column, np.int64) for column in zip(*rows))
    names = np.random.default_rng(seed).permutation(1000)[:6]
    assert by_user(names[user], timestamp) == by_user(user, timestamp)


# -- the order of time -------------------------------------------------------------------------------------------------


def later_by_hand(user: list[int], timestamp: list[int], counted: list[bool]) -> list[int]:
    """Of each rating the counted ones of the same user that come later by time, then by place in the file."""
    time = list(zip(timestamp, range(len(user))))
    return [
        sum(counted[b] for b in range(len(user)) if user[a] == user[b] and time[a] < time[b]) for a in range(len(user))
    ]


def test_later_counts_the_users_own_ratings_after_each():
    times = times_of([1, 2, 1, 2, 1, 3], [40, 5, 10, 5, 40, 1])
    assert times.later().tolist() == [1, 1, 2, 0, 0, 0]
    assert times.later(np.array([False, True, True, True, False, True])).tolist() == [0, 1, 0, 0, 0, 0]
    assert times.later(np.array([True, True, True, False, False, True])).tolist() == [0, 0, 1, 0, 0, 0]
    assert times.ratings_of_user().tolist() == [3, 2, 3, 2, 3, 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_later_is_the_number_of_counted_ratings_that_come_after(rows):
    user, timestamp, counted = map(list, zip(*rows))
    times = times_of(user, timestamp)
    found = times.later(np.array(counted))
    assert found.dtype == np.int32
    assert found.tolist() == later_by_hand(user, timestamp, counted)
    assert times.later().tolist() == later_by_hand(user, timestamp, [True] * len(rows))
    assert times.ratings_of_user().tolist() == [user.count(one) for one in user]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), max_size=30))
def test_ratings_of_the_same_second_do_not_count_as_before(rows):
    user, time = (np.array(column, np.int64).reshape(-1) for column in (zip(*rows) if rows else ([], [])))
    found = TimeOrder.of(user, time).not_before()
    assert found.dtype == np.int32
    for place, count in enumerate(found):
        assert count == ((user == user[place]) & (time >= time[place])).sum() - 1


@settings(deadline=None, max_examples=60)
@given(RATINGS, st.sampled_from([-7, -1, 2**32 - 6, 2**32, 2**40, -(2**62), 2**62]))
def test_times_before_1970_or_after_2106_are_put_in_the_same_order(rows, shift):
    """They do not fit beside the user in one key, and take the other sort."""
    user, timestamp = (np.array(column, np.int64) for column in zip(*rows))
    near, far = TimeOrder.of(user, timestamp), TimeOrder.of(user, timestamp + shift)
    np.testing.assert_array_equal(far.order, near.order)
    np.testing.assert_array_equal(far.last, near.last)


@pytest.mark.parametrize(
    ("timestamps", "sorts"),
    [([0, 2**32 - 1], "argsort"), ([0, 2**32], "lexsort"), ([-1, 5], "lexsort")],
    ids=["just in one key", "2106", "1969"],
)
def test_one_key_is_sorted_only_where_the_times_fit_into_it(timestamps, sorts):
    early, late = timestamps
    with mock.patch.object(np, sorts, wraps=getattr(np, sorts)) as called:
        times = times_of([2**31 - 1, 0, 2**31 - 1, 0], [late, late, early, early])
    assert called.call_count == 1
    assert times.order.tolist() == [3, 1, 2, 0]


def test_no_ratings_have_no_order():
    times = times_of([], [])
    for found in (times.later(), times.later(np.zeros(0, bool)), times.ratings_of_user(), times.order, times.last):
        assert found.tolist() == []


# -- random split ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(100, (72, 8, 20)), (1000, (720, 80, 200)), (20, (14, 2, 4)), (7, (5, 1, 1)), (1, (1, 0, 0)), (0, (0, 0, 0))],
)
def test_random_split_sizes(rows, expected):
    split = random_split(rows, np.random.default_rng(0))
    assert tuple(len(split.rows(part)) for part in PARTS) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_random_split_is_a_partition_that_the_seed_decides(rows, seed):
    split = random_split(rows, np.random.default_rng(seed))
    assert_partition(split, rows)
    assert parts(random_split(rows, np.random.default_rng(seed))) == parts(split)


def test_another_seed_gives_another_random_split():
    assert parts(random_split(200, np.random.default_rng(1))) != parts(random_split(200, np.random.default_rng(2)))


def test_random_split_puts_every_row_into_the_test_equally_often():
    rng = np.random.default_rng(0)
    tested = np.zeros(50)
    for _ in range(2000):
        tested[random_split(50, rng).rows("test")] += 1
    assert np.abs(tested - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


@pytest.mark.parametrize("empty", ["train", "valid", "test"])
def test_check_refuses_an_empty_part(empty):
    numbers = [number for number, part in enumerate(PARTS) if part != empty]
    with pytest.raises(UserError) as caught:
        Split(np.array(3 * numbers, np.int8)).check("ml-tiny, leave-one-out")
    message = str(caught.value)
    assert "ml-tiny, leave-one-out" in message
    assert f"{empty} split is empty" in message
    assert "\n" not in message


def test_check_returns_a_split_without_empty_parts():
    split = Split(np.array([0, 1, 2], np.int8))
    assert split.check("ml-tiny") is split


def test_unused_rows_are_in_no_part():
    split = Split(np.array([UNUSED, 0, 2, UNUSED, 1, 0], np.int8))
    assert parts(split) == {"train": [1, 5], "valid": [4], "test": [2]}


def assert_partition(split: Split, rows: int) -> None:
    """All rows once, each part ascending."""
    found = [split.rows(part) for part in PARTS]
    for part in found:
        assert np.issubdtype(part.dtype, np.integer)
        assert (np.diff(part) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(rows))


# -- splits on disk ----------------------------------------------------------------------------------------------------


def test_files_are_read_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "train").mkdir()
    for number in reversed(range(12)):
        frame = pa.table({"row": [2 * number, 2 * number + 1], "other": ["x", "y"]})
        pq.write_table(frame, tmp_path / "train" / f"part_{number}.parquet")
    (tmp_path / "train" / "schema.pbtxt").write_text("")
    assert [path.name for path in split_files(tmp_path, "train")] == [f"part_{i}.parquet" for i in range(12)]
    found = read_split(tmp_path, "train", ["row"])
    assert found.column_names == ["row"]
    assert found["row"].to_pylist() == list(range(24))
