"""Recommendations for someone unknown, by what they list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifacts import read_manifest
from ensemble.triton_models.history import without_repeats
from tests.ensemble.triton_models.conftest import MOVIES, NEVER_RATED, UNKNOWN, catalogue, ratings, same


@pytest.mark.parametrize(
    ("movies", "expected"),
    [([], []), ([3], [3]), ([3, 3], [3]), ([3, 1, 3], [1, 3]), ([1, 2, 1, 3, 2], [1, 3, 2]), ([5, 4], [5, 4])],
)
def test_each_movie_is_kept_where_it_is_last(movies, expected):
    assert without_repeats(np.array(movies, np.int64)).tolist() == expected


@pytest.mark.parametrize("user", UNKNOWN)
@pytest.mark.parametrize("strategy", ["", "exact", "two-stage"])
def test_someone_unknown_gets_what_most_have_rated(exported, served, recommendations, user, strategy):
    """Counted from the tables: training is everything but each user's last two ratings."""
    train = ratings(served).sort_values(["userId", "timestamp"], kind="stable")
    train = train[train.groupby("userId").cumcount(ascending=False) >= 2]
    count = train["movieId"].value_counts().reindex(catalogue(served), fill_value=0)
    expected = count.sort_values(ascending=False, kind="stable")
    movies, found, known = recommendations.recommend(user, 1000, strategy=strategy)
    assert known is False
    assert movies.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found, expected.to_numpy() / 60, atol=1e-7)
    assert set(movies[-2:].tolist()) == set(NEVER_RATED)
    assert (movies.dtype, found.dtype) == (np.int64, np.float32)
    assert recommendations.recommend(user, 3, strategy=strategy)[0].tolist() == movies[:3].tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(range(10, 1210, 10)), min_size=1, max_size=40),
    st.sampled_from(UNKNOWN),
    st.integers(1, 130),
)
def test_a_history_gets_a_personal_answer_without_what_is_in_it(recommendations, history, user, k):
    movies, found, known = recommendations.recommend(user, k, np.array(history))
    assert known is True
    assert len(set(movies.tolist())) == len(movies) == min(k, MOVIES - len(set(history)))
    assert not set(history) & set(movies.tolist())
    assert (np.diff(found) <= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (movies.dtype, found.dtype) == (np.int64, np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*range(10, 1210, 10), *UNKNOWN]), max_size=30))
def test_unknown_ids_in_a_history_are_passed_over(recommendations, history):
    there = [movie for movie in history if movie not in UNKNOWN]
    same(
        recommendations.recommend(-1, 20, np.array(history, np.int64)),
        recommendations.recommend(-1, 20, np.array(there, np.int64)),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([10, 20, 30, 40, 50, -1]), max_size=30))
def test_a_movie_listed_more_than_once_counts_once_where_it_was_listed_last(recommendations, history):
    once = list(dict.fromkeys(reversed(history)))[::-1]
    same(
        recommendations.recommend(-1, 20, np.array(history, np.int64)),
        recommendations.recommend(-1, 20, np.array(once, np.int64)),
    )


@pytest.mark.parametrize("history", [[], [-1], list(UNKNOWN)])
def test_a_history_of_unknown_ids_is_none(recommendations, history):
    found = recommendations.recommend(-1, 10, np.array(history, np.int64))
    assert found[2] is False
    same(found, recommendations.recommend(-1, 10))


def test_different_histories_get_different_answers(recommendations):
    found = [recommendations.recommend(-1, 10, np.array(history))[1] for history in ([10], [200], [10, 200], [310, 40])]
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert not np.allclose(one, other, rtol=0, atol=1e-7)


def test_the_order_of_a_history_matters_where_the_network_knows_of_moments(served, recommendations):
    forth, back = (
        recommendations.recommend(-1, 10, np.array(movies))[1] for movies in ([10, 200, 310], [310, 200, 10])
    )
    assert np.allclose(forth, back, rtol=0, atol=1e-6) == (read_manifest(served.repository)["default_model"] == "ncf")


@pytest.mark.parametrize("user", [1, 59, 119])
def test_a_known_user_s_history_is_left_out_and_changes_nothing_else(recommendations, user):
    ids, everything, _ = recommendations.recommend(user, 1000)
    history = np.array([*ids[[0, 3, 4]], ids[0], -1, 10])
    movies, found, known = recommendations.recommend(user, 1000, history)
    assert known is True
    left = ~np.isin(ids, history)
    assert movies.tolist() == ids[left].tolist()
    np.testing.assert_array_equal(found, everything[left])
