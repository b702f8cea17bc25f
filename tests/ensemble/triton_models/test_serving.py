"""The serving logic on an exported repository, without Triton."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.artifacts import read_manifest, verify
from core.run_folder import MODELS, Run
from ensemble.export.export import export
from ensemble.triton_models import network
from ensemble.triton_models import recommendations as recommending
from ensemble.triton_models import scores as scoring
from ensemble.triton_models.files import PACKAGE
from ensemble.triton_models.history import without_repeats
from ensemble.triton_models.limits import BadRequest
from ensemble.triton_models.recommendations import NO_MOVIES, Recommendations
from ensemble.triton_models.scores import Scores
from ensemble.triton_models.similar_movies import SimilarMovies
from ensemble.triton_models.top_k import top_k
from models.data.features import load_features
from models.networks.scoring import scorer
from models.training.train import load

UNKNOWN = (-1, 0, 2, 10**9, 2**62)  # no user (odd) and no movie (a multiple of ten from 10) has one of these ids
MOVIES = 120
NEVER_RATED = (1190, 1200)
LONG = pytest.param("x" * 10_000, id="long")
CLOSE = 1e-5  # what is served may be so far from what was evaluated


def folder_of(run: Run, model: str) -> Path:
    """Where the files of a Triton model lie that serve."""
    return run.repository / model / str(read_manifest(run.repository)["version"])


@pytest.fixture(scope="module", params=MODELS)
def served(request, exported, tmp_path_factory) -> Run:
    """The run with its repository, once with DLRM and once with NCF as the default model."""
    run = Run(tmp_path_factory.mktemp("served") / exported.root.name)
    shutil.copytree(exported.root, run.root)
    export(run, "leave-one-out", request.param)
    return run


@pytest.fixture(scope="module")
def scores(exported) -> Scores:
    return Scores(folder_of(exported, "scorer"))


@pytest.fixture(scope="module")
def recommendations(served) -> Recommendations:
    return Recommendations(folder_of(served, "recommend"))


@pytest.fixture
def searching(served) -> Recommendations:
    """One whose settings a test may change."""
    return Recommendations(folder_of(served, "recommend"))


@pytest.fixture(scope="module")
def similar(served) -> SimilarMovies:
    return SimilarMovies(folder_of(served, "similar"))


@pytest.fixture(scope="module")
def offline(exported) -> Callable[..., np.ndarray]:
    """Scores by the trained network of raw ids: `offline(model, user_ids, movie_ids)`."""
    features = load_features(exported, "leave-one-out")
    score = {
        name: scorer(load(exported, features, name, torch.device("cpu"))[0], torch.device("cpu")) for name in MODELS
    }

    tables = {kind: vocabulary(exported, kind) for kind in ("user", "movie")}
    index = {kind: dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist())) for kind, table in tables.items()}

    def indices(kind: str, ids: np.ndarray) -> np.ndarray:
        return np.array([index[kind].get(raw, 2) for raw in ids.tolist()], np.int64)

    return lambda name, user, movie: score[name](indices("user", user), indices("movie", movie))


def vocabulary(run: Run, kind: str) -> pd.DataFrame:
    """Ids in the order of their indices."""
    return pd.read_parquet(run.features / "leave-one-out" / "vocabulary" / f"{kind}_id.parquet").sort_values("index")


def catalogue(run: Run) -> np.ndarray:
    return vocabulary(run, "movie")["movie_id"].to_numpy()


def ratings(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.tables / "ratings.parquet")


def rated_by(run: Run) -> dict[int, set[int]]:
    return ratings(run).groupby("userId")["movieId"].agg(set).to_dict()


def random_ids(run: Run, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Known and unknown ids, with repeats, in no order."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([pd.read_parquet(run.tables / "users.parquet")["userId"], UNKNOWN])
    movies = np.concatenate([pd.read_parquet(run.tables / "movies.parquet")["movieId"], UNKNOWN])
    return rng.choice(users, size), rng.choice(movies, size)


def same(first: tuple, second: tuple) -> None:
    """Two answers, to the last bit."""
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


# -- score -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_are_those_of_the_trained_network(exported, scores, offline, name, size):
    for seed in range(3):
        user, movie = random_ids(exported, seed, size)
        found, _ = scores.score(user, movie, name)
        assert found.dtype == np.float32
        assert found.shape == (size,)
        np.testing.assert_allclose(found, offline(name, user, movie), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_pair_scores_as_in_the_trained_network(exported, scores, offline, name):
    users, movies = (vocabulary(exported, kind)[f"{kind}_id"].to_numpy() for kind in ("user", "movie"))
    user, movie = np.repeat([*users, -1], MOVIES + 1), np.tile([*movies, -1], 61)
    assert len(user) > network.ROWS_AT_ONCE
    np.testing.assert_allclose(scores.score(user, movie, name)[0], offline(name, user, movie), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_the_two_models_and_the_pairs_differ(exported, scores, name):
    user, movie = random_ids(exported, 0, 300)
    other = MODELS[1 - MODELS.index(name)]
    assert not np.allclose(scores.score(user, movie, name)[0], scores.score(user, movie, other)[0])
    assert np.ptp(scores.score(user, movie, name)[0]) > 1e-4


@pytest.mark.parametrize("name", MODELS)
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


@pytest.mark.parametrize("name", MODELS)
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
    for name in MODELS:
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


# -- several requests at once ------------------------------------------------------------------------------------------

REQUESTS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([1, 3, 59, 119, -1, 2]), max_size=5),
        st.lists(st.sampled_from([10, 50, 1200, 7]), max_size=5),
        st.booleans(),
        st.sampled_from(["", *MODELS, "svd"]),
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
    for answer in scores.score_batch([(nothing, nothing, name) for name in ("", *MODELS)]):
        assert [len(part) for part in answer] == [0, 0]


# -- the best of many --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.int8, st.integers(0, 30), elements=st.integers(0, 5)), st.data(), st.integers(1, 40)
)  # few values: many are equal
def test_the_best_are_the_stable_sort_without_the_excluded(values, data, k):
    excluded = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20)) if len(values) else []
    ids = np.arange(len(values)) * 10
    found_ids, found = top_k(ids, values.astype(np.float32), np.array(excluded, np.int64), k)
    left = [place for place in range(len(values)) if place not in excluded]
    expected = sorted(left, key=lambda place: -values[place])[:k]  # Python's sort is stable
    assert found_ids.tolist() == [10 * place for place in expected]
    assert found.tolist() == [values[place] for place in expected]


@pytest.mark.parametrize(
    ("movies", "expected"),
    [([], []), ([3], [3]), ([3, 3], [3]), ([3, 1, 3], [1, 3]), ([1, 2, 1, 3, 2], [1, 3, 2]), ([5, 4], [5, 4])],
)
def test_each_movie_is_kept_where_it_is_last(movies, expected):
    assert without_repeats(np.array(movies, np.int64)).tolist() == expected


# -- recommend ---------------------------------------------------------------------------------------------------------


def test_exact_recommendations_are_the_sorted_rest_of_the_catalogue(served, recommendations, offline):
    """Of every user, against the trained network; who scores the same to the sixth digit may change places."""
    ids, default = catalogue(served), read_manifest(served.repository)["default_model"]
    place = {movie: i for i, movie in enumerate(ids.tolist())}
    users = rated_by(served)
    assert len(users) == 60
    for user, own in users.items():
        everything = offline(default, np.full(MOVIES, user), ids)
        expected = np.sort(everything[~np.isin(ids, list(own))])[::-1]
        for k in (1, 10, 50, 1000):
            movies, found, known = recommendations.recommend(user, k, strategy="exact")
            assert known is True
            assert len(set(movies.tolist())) == len(movies) == min(k, MOVIES - len(own))
            assert not own & set(movies.tolist())
            assert (np.diff(found) <= 0).all()
            assert (movies.dtype, found.dtype) == (np.int64, np.float32)
            np.testing.assert_allclose(found, expected[:k], atol=1e-6, rtol=0)
            of_these = everything[[place[movie] for movie in movies.tolist()]]
            np.testing.assert_allclose(found, of_these, atol=1e-6, rtol=0)


@pytest.mark.parametrize("user", [1, 3, 59, 119])
def test_equal_scores_keep_the_order_of_the_catalogue(served, searching, user):
    """The movies' rows copied from ten of them: many movies score the same."""
    ids, own = catalogue(served), rated_by(served)[user]
    ten = np.arange(MOVIES) % 10
    searching.vector, searching.hidden = searching.vector[ten], searching.hidden[ten]
    row = searching.users(np.array([user]))[0]
    everything = searching.network.score_row(searching.network.user[row], searching.vector, searching.hidden)
    assert len(np.unique(everything)) <= 10
    left = np.flatnonzero(~np.isin(ids, list(own)))
    for k in (1, 10, 50, 1000):
        expected = left[np.argsort(-everything[left], kind="stable")][:k]
        movies, found, _ = searching.recommend(user, k, strategy="exact")
        assert movies.tolist() == ids[expected].tolist()
        np.testing.assert_array_equal(found, everything[expected])


def test_scores_of_recommendations_are_those_of_score(served, recommendations):
    serving = Scores(folder_of(served, "scorer"))
    movies, found, _ = recommendations.recommend(7, 20)
    np.testing.assert_allclose(found, serving.score(np.full(20, 7), movies)[0], atol=1e-6, rtol=0)


def test_without_k_there_are_ten(recommendations):
    same(recommendations.recommend(1), recommendations.recommend(1, 10))
    assert len(recommendations.recommend(1)[0]) == 10


class WorstFirst:
    """A first stage that finds the worst movies, so that the two ways cannot agree by chance."""

    def __init__(self, recommendations: Recommendations):
        self.asked = recommendations

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [-self.asked.network.score_row(inputs["user"], self.asked.vector, self.asked.hidden)]


def test_without_a_strategy_the_repository_s_is_taken(searching):
    assert searching.strategy == "exact"  # what export finds best for so few movies
    same(searching.recommend(1), searching.recommend(1, strategy="exact"))
    searching.candidates, searching.query = 10, WorstFirst(searching)
    exact = searching.recommend(1, 1, strategy="exact")
    same(searching.recommend(1, 1), exact)
    searching.strategy = "two-stage"
    assert searching.recommend(1, 1)[1] < exact[1]


@pytest.mark.parametrize("user", [1, UNKNOWN[0]])
@pytest.mark.parametrize("k", [0, -1, 1001, 1_000_000, -(2**31)])
def test_a_k_out_of_range_is_refused(recommendations, similar, user, k):
    with pytest.raises(BadRequest, match=f"k is {k}; it must be from 1 to 1000"):
        recommendations.recommend(user, k)
    with pytest.raises(BadRequest, match=f"k is {k}; it must be from 1 to 1000"):
        similar.similar(10, k)


@pytest.mark.parametrize("user", [1, UNKNOWN[0]])
@pytest.mark.parametrize("strategy", ["fast", "Exact", "two_stage", " ", LONG])
def test_an_unknown_strategy_is_refused(recommendations, user, strategy):
    with pytest.raises(BadRequest, match="choose one of exact, two-stage") as caught:
        recommendations.recommend(user, strategy=strategy)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("user", [1, UNKNOWN[0]])
def test_a_history_that_is_too_long_or_no_list_is_refused(recommendations, user):
    with pytest.raises(BadRequest, match=r"history has shape \[10001\]; it must be \[m\], m at most 10000"):
        recommendations.recommend(user, history=np.full(10_001, 10))
    with pytest.raises(BadRequest, match=r"history has shape \[1, 2\]"):
        recommendations.recommend(user, history=np.array([[10, 20]]))
    assert len(recommendations.recommend(user, history=np.full(10_000, 10))[0]) == 10


# -- in two stages -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_stages(searching, monkeypatch) -> Callable[..., tuple[np.ndarray, np.ndarray, bool]]:
    """`recommend` in two stages with so many candidates, whatever `k` is."""
    monkeypatch.setattr(recommending, "CANDIDATES_PER_K", 1)

    def recommend(user: int, k: int, candidates: int, history: np.ndarray = NO_MOVIES) -> tuple:
        searching.candidates = candidates
        return searching.recommend(user, k, history, "two-stage")

    return recommend


@pytest.mark.parametrize("candidates", [12, 30, 60])
def test_two_stages_rank_the_nearest_open_movies(served, searching, two_stages, candidates):
    """For every user, against the first stage done by hand and the exact answer."""
    ids = catalogue(served)
    place = {movie: i for i, movie in enumerate(ids.tolist())}
    missed = 0
    for user, own in rated_by(served).items():
        row = searching.network.user[searching.users(np.array([user]))[0]]
        near = searching.query.run(None, {"user": row, "movie": searching.retrieval})[0]
        open_places = [i for i, movie in enumerate(ids.tolist()) if movie not in own]
        nearest = set(sorted(open_places, key=lambda i: -near[i])[:candidates])
        exact_ids, exact, _ = searching.recommend(user, 1000, strategy="exact")
        score = dict(zip(exact_ids.tolist(), exact.tolist()))
        movies, found, known = two_stages(user, 12, candidates)
        assert known is True
        assert (movies.dtype, found.dtype) == (np.int64, np.float32)
        assert len(set(movies.tolist())) == len(movies) == 12
        assert not own & set(movies.tolist())
        assert {place[movie] for movie in movies.tolist()} <= nearest
        np.testing.assert_allclose(found, [score[movie] for movie in movies.tolist()], atol=1e-6, rtol=0)
        best_of_them = sorted((score[ids[i]] for i in nearest), reverse=True)[:12]
        np.testing.assert_allclose(found, best_of_them, atol=1e-6, rtol=0)
        missed += not np.allclose(found, exact[:12], atol=1e-6)
    assert missed or candidates > 12  # what so few candidates leave out shows


def test_equal_scores_keep_the_order_of_the_catalogue_in_two_stages(served, searching, two_stages):
    """Every movie's row is the same one, so all score the same; the candidates are others for each user."""
    ids = catalogue(served).tolist()
    first = np.zeros(MOVIES, int)
    searching.vector, searching.hidden = searching.vector[first], searching.hidden[first]
    chosen = set()
    for user in rated_by(served):
        movies, found, _ = two_stages(user, 20, 20)
        assert np.ptp(found) == 0
        places = [ids.index(movie) for movie in movies.tolist()]
        assert places == sorted(places)
        chosen.add(tuple(places))
    assert len(chosen) > 30


def test_from_half_of_the_catalogue_on_all_of_it_is_scored(searching, two_stages):
    searching.query = WorstFirst(searching)
    exact = searching.recommend(1, 5, strategy="exact")
    assert two_stages(1, 5, 60)[1][0] < exact[1][0]
    for candidates in (61, MOVIES, 500):
        same(two_stages(1, 5, candidates), exact)


def test_candidates_grow_with_k(searching, monkeypatch):
    searching.query, searching.candidates = WorstFirst(searching), 1
    monkeypatch.setattr(recommending, "CANDIDATES_PER_K", 10)
    assert searching.recommend(1, 6, strategy="two-stage")[1][0] < searching.recommend(1, 6, strategy="exact")[1][0]
    same(searching.recommend(1, 7, strategy="two-stage"), searching.recommend(1, 7, strategy="exact"))


def test_with_all_open_movies_as_candidates_two_stages_are_exact(served, searching, two_stages):
    """So many are excluded that 60 candidates are all that is left."""
    ids, own = catalogue(served), rated_by(served)
    for user in (1, 59, 119):
        history = np.array([movie for movie in ids.tolist() if movie not in own[user]][: 70 - len(own[user])])
        searching.retrieval = -np.abs(np.array(searching.retrieval))
        exact = searching.recommend(user, 1000, history, "exact")
        found = two_stages(user, 60, 60, history)
        assert len(exact[0]) == 50
        np.testing.assert_array_equal(found[0], exact[0])
        np.testing.assert_allclose(found[1], exact[1], atol=1e-6, rtol=0)


def test_who_has_seen_everything_is_recommended_nothing(served, recommendations, two_stages):
    everything = catalogue(served)
    for user in (1, UNKNOWN[0]):
        for movies, found, known in (
            recommendations.recommend(user, 10, everything),
            two_stages(user, 10, 10, everything),
        ):
            assert known is True
            assert (movies.shape, movies.dtype) == ((0,), np.int64)
            assert (found.shape, found.dtype) == ((0,), np.float32)


def test_a_newcomer_is_answered_in_two_stages_too(recommendations, two_stages):
    history = np.array([10, 200, 310])
    exact_ids, exact, _ = recommendations.recommend(-1, 1000, history, "exact")
    score = dict(zip(exact_ids.tolist(), exact.tolist()))
    movies, found, known = two_stages(-1, 10, 30, history)
    assert known is True
    assert len(movies) == 10
    np.testing.assert_allclose(found, [score[movie] for movie in movies.tolist()], atol=1e-6, rtol=0)
    assert (np.diff(found) <= 0).all()


# -- newcomers ---------------------------------------------------------------------------------------------------------


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
            assert not np.allclose(one, other, atol=1e-6)


def test_the_order_of_a_history_matters_where_the_network_knows_of_moments(served, recommendations):
    forth, back = (
        recommendations.recommend(-1, 10, np.array(movies))[1] for movies in ([10, 200, 310], [310, 200, 10])
    )
    assert np.allclose(forth, back, atol=1e-6) == (read_manifest(served.repository)["default_model"] == "ncf")


@pytest.mark.parametrize("user", [1, 59, 119])
def test_a_known_user_s_history_is_left_out_and_changes_nothing_else(recommendations, user):
    ids, everything, _ = recommendations.recommend(user, 1000)
    history = np.array([*ids[[0, 3, 4]], ids[0], -1, 10])
    movies, found, known = recommendations.recommend(user, 1000, history)
    assert known is True
    left = ~np.isin(ids, history)
    assert movies.tolist() == ids[left].tolist()
    np.testing.assert_array_equal(found, everything[left])


# -- similar -----------------------------------------------------------------------------------------------------------


def test_similar_movies_are_sorted_by_the_cosine_of_their_vectors(served, similar):
    ids = catalogue(served)
    vectors = np.load(folder_of(served, "similar") / "similar.npy").astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    cosines = vectors @ vectors.T / np.outer(lengths, lengths)
    place = {movie: i for i, movie in enumerate(ids.tolist())}
    for movie in ids.tolist():
        for k in (1, 10, 1000):
            movies, found = similar.similar(movie, k)
            assert len(set(movies.tolist())) == len(movies) == min(k, MOVIES - 1)
            assert movie not in movies
            assert (np.diff(found) <= 0).all()
            assert (movies.dtype, found.dtype) == (np.int64, np.float32)
            expected = np.sort(np.delete(cosines[place[movie]], place[movie]))[::-1][:k]
            np.testing.assert_allclose(found, expected, atol=1e-6)
            there = [place[other] for other in movies.tolist()]
            np.testing.assert_allclose(found, cosines[place[movie], there], atol=1e-6)


def test_without_k_there_are_ten_similar_ones(similar):
    same(similar.similar(50), similar.similar(50, 10))


@pytest.mark.parametrize("movie", UNKNOWN)
def test_an_unknown_movie_is_refused(similar, movie):
    with pytest.raises(BadRequest, match=f"movie {movie} is not in the data"):
        similar.similar(movie)


@pytest.mark.parametrize("movie", NEVER_RATED)
def test_a_movie_that_nobody_rated_is_answered_by_its_genres_and_year(served, similar, movie):
    """Against rated movies half of whose vector is learned, and the other one that nobody rated."""
    about = pd.read_parquet(served.features / "leave-one-out" / "side" / "movie_features.parquet")
    about = about.drop(columns="movie_index").to_numpy()[3:]
    genres, year = about[:, :-1], about[:, -1:]
    content = np.hstack([genres / np.maximum(np.linalg.norm(genres, axis=1, keepdims=True), 1e-9), 0.3 * year])
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    ids = catalogue(served)
    (own,) = np.flatnonzero(ids == movie)
    expected = content @ content[own] * np.where(np.isin(ids, NEVER_RATED), 1, 0.5**0.5)
    movies, found = similar.similar(movie, 1000)
    by_id = dict(zip(ids.tolist(), expected.tolist()))
    np.testing.assert_allclose(found, [by_id[other] for other in movies.tolist()], atol=1e-5)


# -- nothing is changed ------------------------------------------------------------------------------------------------


def test_answers_do_not_change_what_the_next_one_is(served, recommendations, similar):
    scores = Scores(folder_of(served, "scorer"))
    user, movie = random_ids(served, 6, 50)
    questions = [
        lambda: scores.score(user, movie),
        lambda: recommendations.recommend(1),
        lambda: recommendations.recommend(-1),
        lambda: recommendations.recommend(-1, 10, np.array([10, 20])),
        lambda: recommendations.recommend(3, 10, np.array([10, 20]), "two-stage"),
        lambda: similar.similar(50),
    ]
    before = [[np.array(part) for part in ask()] for ask in questions]
    for ask in questions:
        for part in ask()[:2]:
            part[:] = 0  # what a caller does with its answer is its own business
    for ask, expected in zip(questions, before):
        same(ask(), tuple(expected))
    verify(served.repository)


def test_tables_are_mapped_and_cannot_be_written_to(recommendations, similar):
    network = recommendations.network
    mapped = [network.user, network.vector, network.hidden, recommendations.rated, recommendations.retrieval]
    for values in (*mapped, recommendations.vector, similar.vectors):
        assert isinstance(values, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


# -- what runs inside Triton -------------------------------------------------------------------------------------------

SOURCES = sorted(Path(network.__file__).parent.glob("*.py"))
NEEDS_TRITON = ("backend", "recommend", "scorer", "similar")


def test_the_files_need_only_what_serving_has():
    """And each other, relatively, as the package has another name inside Triton."""
    allowed = {"collections", "json", "pathlib", "shutil", "typing", "numpy", "onnxruntime", "pyarrow", "pydantic"}
    assert len(SOURCES) > 10
    for source in SOURCES:
        may_import = allowed | ({"triton_python_backend_utils"} if source.stem in NEEDS_TRITON else set())
        tree = ast.parse(source.read_text())
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1
                assert (source.parent / f"{node.module}.py").is_file()
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
        assert found <= may_import, source
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"eval", "exec", "__import__"}


def test_arrays_are_never_unpickled():
    loads = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"
    ]
    assert len(loads) == 2
    for call in loads:
        allowed = {keyword.arg: keyword.value.value for keyword in call.keywords if keyword.arg == "allow_pickle"}
        assert allowed == {"allow_pickle": False}


@pytest.mark.parametrize("model", ["scorer", "recommend", "similar"])
def test_what_is_exported_are_these_files(exported, model):
    folder = folder_of(exported, model)
    copies = sorted((folder / PACKAGE).iterdir())
    assert [copy.name for copy in copies] == [source.name for source in SOURCES]
    for copy, source in zip(copies, SOURCES):
        assert copy.read_bytes() == source.read_bytes()
    assert f"from {PACKAGE}.{model} import TritonPythonModel\n" in (folder / "model.py").read_text()


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("scorer", "Scores(here).score(np.array([1, 3]), np.array([10, 20]))[0]"),
        ("recommend", "Recommendations(here).recommend(1, 3)[0]"),
        ("recommend", "Recommendations(here).recommend(-1, 3, np.array([10, 20]))[0]"),
        ("similar", "SimilarMovies(here).similar(10, 3)[0]"),
    ],
    ids=["scorer", "recommend", "recommend to a newcomer", "similar"],
)
def test_answers_alone_load_no_training_code(exported, model, answer):
    """In a fresh interpreter, from the exported folder, as Triton does it."""
    folder = folder_of(exported, model)
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from marquee_serving.scores import Scores;"
        "from marquee_serving.recommendations import Recommendations;"
        "from marquee_serving.similar_movies import SimilarMovies;"
        "here = Path('.').resolve();"
        f"print(({answer}).tolist());"
        "unwanted = ('torch', 'merlin', 'nvtabular', 'core', 'workflows', 'marquee', 'models', 'ensemble');"
        "print([name for name in unwanted if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    found, modules = result.stdout.splitlines()
    expected = eval(answer, {**globals(), "here": folder})
    assert found == str(expected.tolist())
    assert modules == "[]"
    assert not list(folder.rglob("__pycache__"))
