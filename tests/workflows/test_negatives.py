"""Unseen movies: against plain sets, and against the uniform distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.negatives import NegativeSampler

FIRST = 3  # the lowest movie index of the catalogues here
BEYOND = 50  # a user above all that have a seen pair


@st.composite
def catalogues(draw):
    """(number of movies, seen movie indices by user, users to ask about); some users have seen nothing."""
    movies = draw(st.integers(1, 12))
    seen = draw(st.dictionaries(st.integers(0, 6), st.sets(st.integers(FIRST, FIRST + movies - 1)), max_size=5))
    return movies, seen, [*range(8), BEYOND]


def sampler_of(movies: int, seen: dict[int, set[int]], seed: int = 0) -> NegativeSampler:
    """With the pairs shuffled and each given twice."""
    pairs = 2 * [(user, movie) for user, rated in seen.items() for movie in rated]
    order = np.random.default_rng(seed).permutation(len(pairs))
    user, movie = (np.array([pairs[i][column] for i in order], np.int64) for column in (0, 1))
    return NegativeSampler(user, movie, FIRST, movies)


def complement(movies: int, seen: dict[int, set[int]], user: int) -> list[int]:
    return [movie for movie in range(FIRST, FIRST + movies) if movie not in seen.get(user, set())]


def chi_square_per_cell(counts: np.ndarray, expected: float) -> float:
    """Near 1 for a uniform draw, whose standard deviation is sqrt(2 / cells)."""
    return float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))


@settings(deadline=None, max_examples=60)
@given(catalogues(), st.integers(0, 2**32 - 1))
def test_nth_unseen_enumerates_the_complement_in_ascending_order(catalogue, seed):
    movies, seen, users = catalogue
    sampler = sampler_of(movies, seen, seed)
    for user in users:
        expected = complement(movies, seen, user)
        assert sampler.unseen(np.array([user])).tolist() == [len(expected)]
        assert sampler.nth_unseen(np.array(user), np.arange(len(expected))).tolist() == expected


def test_nth_unseen_of_many_users_at_once():
    sampler = sampler_of(5, {0: {3, 5}, 2: {4, 6, 7}})
    rank = np.array([[0, 1], [0, 4], [0, 1]])
    found = sampler.nth_unseen(np.array([[0], [1], [2]]), rank)
    assert found.tolist() == [[4, 6], [3, 7], [3, 5]]


@settings(deadline=None, max_examples=60)
@given(catalogues(), st.integers(0, 2**32 - 1))
def test_draw_gives_only_unseen_movies_of_the_catalogue(catalogue, seed):
    movies, seen, users = catalogue
    users = [user for user in users if complement(movies, seen, user)]
    drawn = sampler_of(movies, seen).draw(np.array(users), 20, np.random.default_rng(seed))
    assert drawn.shape == (len(users), 20)
    for user, row in zip(users, drawn.tolist()):
        assert set(row) <= set(complement(movies, seen, user))


@settings(deadline=None, max_examples=60)
@given(catalogues(), st.integers(1, 14), st.integers(0, 2**32 - 1))
def test_draw_distinct_gives_different_unseen_movies_and_pads_only_where_there_are_fewer(catalogue, count, seed):
    movies, seen, users = catalogue
    drawn = sampler_of(movies, seen).draw_distinct(np.array(users), count, np.random.default_rng(seed))
    assert drawn.shape == (len(users), count)
    for user, row in zip(users, drawn.tolist()):
        unseen = complement(movies, seen, user)
        kept = min(count, len(unseen))
        assert row[kept:] == [-1] * (count - kept)
        assert row[:kept] == sorted(set(row[:kept]))
        assert set(row[:kept]) <= set(unseen)


def test_draw_distinct_gives_all_unseen_movies_where_they_are_just_enough():
    sampler = sampler_of(6, {0: {4, 8}, 1: set(range(3, 9))})
    drawn = sampler.draw_distinct(np.array([0, 1]), 4, np.random.default_rng(0))
    assert drawn.tolist() == [[3, 5, 6, 7], [-1, -1, -1, -1]]


@pytest.mark.parametrize("method", ["draw", "draw_distinct"])
def test_the_seed_decides(method):
    sampler = sampler_of(40, {0: {5, 6, 7}, 1: {20}})
    users = np.array([0, 1, 2])
    first, again, other = (getattr(sampler, method)(users, 10, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("user", [0, 1, 2, BEYOND], ids=["many seen", "none seen", "ends seen", "beyond"])
def test_draw_is_uniform_over_the_unseen(user):
    seen = {0: set(range(10, 25)), 2: {FIRST, FIRST + 29}}
    unseen = complement(30, seen, user)
    drawn = sampler_of(30, seen).draw(np.full(300, user), 100, np.random.default_rng(0))
    counts = np.bincount(drawn.ravel(), minlength=FIRST + 30)[unseen]
    assert counts.sum() == drawn.size
    assert chi_square_per_cell(counts, drawn.size / len(unseen)) < 1 + 4 * np.sqrt(2 / len(unseen))


def test_draw_distinct_is_uniform_over_all_sets():
    seen = {0: {4, 6, 9}}
    unseen = complement(9, seen, 0)  # 6 movies: 20 sets of 3
    drawn = sampler_of(9, seen).draw_distinct(np.zeros(20_000, int), 3, np.random.default_rng(0))
    sets, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(sets) == 20
    assert set(sets.ravel().tolist()) == set(unseen)
    assert chi_square_per_cell(counts, 1000) < 1 + 4 * np.sqrt(2 / 20)


def test_draw_distinct_is_uniform_where_nearly_all_unseen_are_drawn():
    drawn = sampler_of(6, {0: {5}}).draw_distinct(np.zeros(10_000, int), 4, np.random.default_rng(0))
    sets, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(sets) == 5
    assert chi_square_per_cell(counts, 2000) < 1 + 4 * np.sqrt(2 / 5)


def test_without_any_seen_pair_all_movies_are_unseen():
    sampler = sampler_of(4, {})
    assert sampler.unseen(np.array([0, 9])).tolist() == [4, 4]
    assert sampler.draw_distinct(np.array([0, 9]), 5, np.random.default_rng(0)).tolist() == 2 * [[3, 4, 5, 6, -1]]


def test_no_users_get_no_movies():
    sampler = sampler_of(4, {0: {3}})
    no_users = np.zeros(0, int)
    assert sampler.draw(no_users, 5, np.random.default_rng(0)).shape == (0, 5)
    assert sampler.draw_distinct(no_users, 5, np.random.default_rng(0)).shape == (0, 5)


def test_draw_refuses_a_user_who_has_seen_everything():
    sampler = sampler_of(3, {0: {3}, 1: {3, 4, 5}})
    with pytest.raises(ValueError, match="seen every movie"):
        sampler.draw(np.array([0, 1]), 1, np.random.default_rng(0))


@pytest.mark.parametrize("movie", [FIRST - 1, FIRST + 4])
def test_a_movie_outside_the_catalogue_is_refused(movie):
    with pytest.raises(ValueError, match="outside the catalogue"):
        NegativeSampler(np.array([0, 0]), np.array([FIRST, movie]), FIRST, 4)
