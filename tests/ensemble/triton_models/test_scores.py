"""Scores of pairs, alone and several requests together."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifacts import read_manifest
from ensemble.triton_models import network
from ensemble.triton_models import scores as scoring
from ensemble.triton_models.limits import BadRequest
from ensemble.triton_models.scores import Scores
from tests.ensemble.triton_models.conftest import (
    CLOSE,
    LONG,
    MOVIES,
    NEVER_RATED,
    UNKNOWN,
    random_ids,
    same,
    vocabulary,
)
from tests.names import COMPARED


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_are_those_of_the_trained_network(exported, scores, offline, name, size):
    for seed in range(3):
        user, movie = random_ids(exported, seed, size)
        found, _ = scores.score(user, movie, name)
        assert found.dtype == np.float32
        assert found.shape == (size,)
        np.testing.assert_allclose(found, offline(name, user, movie), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", COMPARED)
def test_every_pair_scores_as_in_the_trained_network(exported, scores, offline, name):
    users, movies = (vocabulary(exported, kind)[f"{kind}_id"].to_numpy() for kind in ("user", "movie"))
    user, movie = np.repeat([*users, -1], MOVIES + 1), np.tile([*movies, -1], 61)
    assert len(user) > network.ROWS_AT_ONCE
    np.testing.assert_allclose(scores.score(user, movie, name)[0], offline(name, user, movie), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", COMPARED)
def test_the_two_models_and_the_pairs_differ(exported, scores, name):
    user, movie = random_ids(exported, 0, 300)
    other = COMPARED[1 - COMPARED.index(name)]
    assert not np.allclose(scores.score(user, movie, name)[0], scores.score(user, movie, other)[0])
    assert np.ptp(scores.score(user, movie, name)[0]) > 1e-4


@pytest.mark.parametrize("name", COMPARED)
def test_a_pair_scores_the_same_alone_and_among_others(exported, scores, name):
    user, movie = random_ids(exported, 1, 50)
    together, known = scores.score(user, movie, name)
    for i in range(len(user)):
        alone, known_alone = scores.score(user[i : i + 1], movie[i : i + 1], name)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        assert known_alone[0] == known[i]


@pytest.mark.parametrize("rows", [1, 7, 99, 100, 101])
def test_many_rows_are_scored_in_parts(exported, scores, monkeypatch, rows):
    user, movie = random_ids(exported, 2, 100)
    whole, _ = scores.score(user, movie)
    monkeypatch.setattr(network, "ROWS_AT_ONCE", rows)
    np.testing.assert_allclose(scores.score(user, movie)[0], whole, atol=1e-6)


def test_known_means_rated_in_training(exported, scores):
    train = pd.read_parquet(exported.features / "leave-one-out" / "train" / "part_0.parquet")
    in_training = {}
    for kind in ("user", "movie"):
        table = vocabulary(exported, kind)
        in_training[kind] = set(table.loc[table["index"].isin(train[f"{kind}_index"]), f"{kind}_id"])
    user, movie = random_ids(exported, 3, 2000)
    _, known = scores.score(user, movie)
    expected = [u in in_training["user"] and m in in_training["movie"] for u, m in zip(user.tolist(), movie.tolist())]
    assert known.dtype == bool
    assert known.tolist() == expected
    assert 0 < known.sum() < len(known)
    assert not scores.score(np.array([1]), np.array([NEVER_RATED[0]]))[1][0]


@pytest.mark.parametrize("name", COMPARED)
def test_all_unknown_users_score_alike(scores, name):
    found, known = scores.score(np.array(UNKNOWN), np.full(len(UNKNOWN), 50), name)
    assert np.ptp(found) < 1e-6
    assert not known.any()


def test_without_a_model_the_default_answers(exported, scores):
    user, movie = random_ids(exported, 4, 20)
    default = read_manifest(exported.repository)["default_model"]
    assert scores.default_model == default
    same(scores.score(user, movie), scores.score(user, movie, default))


def test_no_pairs_are_no_scores(scores):
    nothing = np.empty(0, np.int64)
    for name in COMPARED:
        found, known = scores.score(nothing, nothing, name)
        assert (found.shape, found.dtype) == ((0,), np.float32)
        assert (known.shape, known.dtype) == ((0,), bool)


@pytest.mark.parametrize(("users", "movies"), [([1, 3], [10]), ([1], [10, 20]), ([], [10]), ([[1]], [[10]]), (1, 10)])
def test_arrays_that_do_not_match_are_refused(scores, users, movies):
    with pytest.raises(BadRequest, match=r"both must be \[n\]"):
        scores.score(np.array(users, np.int64), np.array(movies, np.int64))


@pytest.mark.parametrize("name", ["svd", "DLRM", "../ncf", "dlrm.onnx", " ", LONG])
def test_an_unknown_model_is_refused(scores, name):
    with pytest.raises(BadRequest, match="choose one of dlrm, ncf") as caught:
        scores.score(np.array([1]), np.array([10]), name)
    assert len(str(caught.value)) < 100


def test_a_batch_that_is_too_large_is_refused(exported, scores, monkeypatch):
    monkeypatch.setattr(scoring, "LARGEST_BATCH", 30)
    user, movie = random_ids(exported, 5, 31)
    assert len(scores.score(user[:30], movie[:30])[0]) == 30
    with pytest.raises(BadRequest, match="31 pairs in one request; ask for at most 30 at a time"):
        scores.score(user, movie)


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([1, 3, 59, 119, -1, 2]), max_size=5),
        st.lists(st.sampled_from([10, 50, 1200, 7]), max_size=5),
        st.booleans(),
        st.sampled_from(["", *COMPARED, "svd"]),
    ),
    max_size=8,
)


def answer_of(scores: Scores, request: tuple[np.ndarray, np.ndarray, str]) -> tuple | str:
    try:
        return scores.score(*request)
    except BadRequest as error:
        return str(error)


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_requests_together_are_answered_as_one_by_one(scores, asked):
    requests = []
    for users, movies, matched, model in asked:
        count = min(len(users), len(movies)) if matched else None
        requests.append((np.array(users[:count], np.int64), np.array(movies[:count], np.int64), model))
    found = scores.score_batch(requests)
    assert len(found) == len(requests)
    for request, answer in zip(requests, found):
        expected = answer_of(scores, request)
        if isinstance(expected, str):
            assert isinstance(answer, BadRequest)
            assert str(answer) == expected
        else:
            np.testing.assert_allclose(answer[0], expected[0], atol=1e-6, rtol=0)
            np.testing.assert_array_equal(answer[1], expected[1])
            assert (answer[0].dtype, answer[1].dtype) == (np.float32, bool)


def test_bad_requests_keep_their_places_among_good_ones(scores, monkeypatch):
    monkeypatch.setattr(scoring, "LARGEST_BATCH", 3)

    def request(users: list[int], movies: list[int], model: str) -> tuple[np.ndarray, np.ndarray, str]:
        return np.array(users, np.int64), np.array(movies, np.int64), model

    requests = [
        request([1], [10], "svd"),
        request([1, 3], [10, 20], "ncf"),
        request([], [], ""),
        request([1], [10, 20], ""),
        request([59], [30], "dlrm"),
        request([5] * 4, [10] * 4, ""),
        request([1], [10], "ncf"),
    ]
    found = scores.score_batch(requests)
    refused = {place: str(answer) for place, answer in enumerate(found) if isinstance(answer, BadRequest)}
    assert list(refused) == [0, 3, 5]
    assert "unknown model 'svd'" in refused[0]
    assert "[1]" in refused[3]
    assert "[2]" in refused[3]
    assert "4 pairs" in refused[5]
    assert [len(found[place][0]) for place in (1, 2, 4, 6)] == [2, 0, 1, 1]
    np.testing.assert_allclose(found[6][0][0], found[1][0][0], atol=1e-6)
    np.testing.assert_allclose(found[4][0], scores.score(*requests[4])[0], atol=1e-6)


def test_no_requests_are_no_answers(scores):
    assert scores.score_batch([]) == []


def test_empty_requests_alone_are_answered(scores):
    nothing = np.empty(0, np.int64)
    for answer in scores.score_batch([(nothing, nothing, name) for name in ("", *COMPARED)]):
        assert [len(part) for part in answer] == [0, 0]
