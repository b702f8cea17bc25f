"""The two protocols' splits: by hand on small cases, and their properties on drawn ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.errors import UserError
from workflows.splits import Split, later_ratings, leave_one_out, random_split

RATINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=60)  # (user, timestamp)


def parts(split: Split) -> dict[str, list[int]]:
    return {name: getattr(split, name).tolist() for name in ("train", "valid", "test")}


def by_user(user: list[int], timestamp: list[int]) -> dict[str, list[int]]:
    return parts(leave_one_out(np.array(user), np.array(timestamp, np.int64)))


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


def test_later_ratings_counts_the_users_own_ratings_after_each():
    user, timestamp = np.array([1, 2, 1, 2, 1, 3]), np.array([40, 5, 10, 5, 40, 1])
    assert later_ratings(user, timestamp).tolist() == [1, 1, 2, 0, 0, 0]


def test_no_ratings_split_into_nothing():
    assert by_user([], []) == {"train": [], "valid": [], "test": []}


@settings(deadline=None, max_examples=60)
@given(RATINGS)
def test_leave_one_out_is_a_partition_in_time_order(rows):
    user, timestamp = (np.array(column, np.int64) for column in zip(*rows))
    split = leave_one_out(user, timestamp)
    assert_partition(split, len(rows))
    time = list(zip(timestamp.tolist(), range(len(rows))))  # file order breaks ties
    for one in set(user.tolist()):
        train, valid, test = (
            [time[row] for row in getattr(split, part) if user[row] == one] for part in ("train", "valid", "test")
        )
        ratings = len(train) + len(valid) + len(test)
        assert (len(valid), len(test)) == (int(ratings >= 3), int(ratings >= 2))
        ordered = sorted(train) + valid + test
        assert ordered == sorted(ordered)


@settings(deadline=None, max_examples=60)
@given(RATINGS, st.integers(0, 2**32 - 1))
def test_leave_one_out_does_not_depend_on_the_names_of_users(rows, seed):
    user, timestamp = (np.array(column, np.int64) for column in zip(*rows))
    names = np.random.default_rng(seed).permutation(1000)[:6]
    assert parts(leave_one_out(names[user], timestamp)) == parts(leave_one_out(user, timestamp))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(100, (72, 8, 20)), (1000, (720, 80, 200)), (20, (14, 2, 4)), (7, (5, 1, 1)), (1, (1, 0, 0)), (0, (0, 0, 0))],
)
def test_random_split_sizes(rows, expected):
    split = random_split(rows, np.random.default_rng(0))
    assert (len(split.train), len(split.valid), len(split.test)) == expected


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
        tested[random_split(50, rng).test] += 1
    assert np.abs(tested - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


@pytest.mark.parametrize("empty", ["train", "valid", "test"])
def test_check_refuses_an_empty_part(empty):
    rows = {part: np.arange(0 if part == empty else 3) for part in ("train", "valid", "test")}
    with pytest.raises(UserError) as caught:
        Split(**rows).check("ml-tiny, leave-one-out")
    message = str(caught.value)
    assert "ml-tiny, leave-one-out" in message
    assert f"{empty} split is empty" in message
    assert "\n" not in message


def test_check_returns_a_split_without_empty_parts():
    split = Split(np.array([0]), np.array([1]), np.array([2]))
    assert split.check("ml-tiny") is split


def assert_partition(split: Split, rows: int) -> None:
    """All rows once, each part ascending."""
    for part in (split.train, split.valid, split.test):
        assert np.issubdtype(part.dtype, np.integer)
        assert (np.diff(part) > 0).all()
    together = np.concatenate([split.train, split.valid, split.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(rows))
