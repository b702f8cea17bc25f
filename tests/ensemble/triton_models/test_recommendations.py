"""Recommendations for known users: the whole catalogue, and two stages."""

import shutil
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from core.artifacts import read_manifest
from core.run_folder import Run
from ensemble.export.export import export
from ensemble.triton_models import recommendations as recommending
from ensemble.triton_models.limits import BadRequest
from ensemble.triton_models.ranking import Ranking
from ensemble.triton_models.recommendations import NO_MOVIES, Recommendations
from ensemble.triton_models.scores import Scores
from tests.ensemble.triton_models.conftest import LONG, MOVIES, UNKNOWN, catalogue, folder_of, rated_by, same
from tests.names import COMPARED


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


@pytest.mark.parametrize("strategy", ["exact", "two-stage"])
def test_every_network_recommends_as_where_it_is_the_default(served, recommendations, exported, tmp_path, strategy):
    """Known users, and someone unknown, against the repository that has the other network as its default."""
    for name in COMPARED:
        own = Run(tmp_path / name / exported.root.name)
        shutil.copytree(exported.root, own.root)
        export(own, "leave-one-out", name)
        alone = Recommendations(folder_of(own, "recommend"))
        for user, history in ((1, NO_MOVIES), (59, NO_MOVIES), (None, np.array([10, 200])), (None, NO_MOVIES)):
            expected = alone.recommend(user, 20, history, strategy)
            same(recommendations.recommend(user, 20, history, strategy, name), expected)


@pytest.mark.parametrize("name", COMPARED)
def test_every_network_s_recommendations_are_the_sorted_rest_of_the_catalogue(served, recommendations, offline, name):
    """Of every user, against the trained network."""
    ids = catalogue(served)
    for user, own in rated_by(served).items():
        everything = offline(name, np.full(MOVIES, user), ids)
        expected = np.sort(everything[~np.isin(ids, list(own))])[::-1][:50]
        movies, found, known = recommendations.recommend(user, 50, strategy="exact", model=name)
        assert known is True
        assert not own & set(movies.tolist())
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
        of_these = everything[[ids.tolist().index(movie) for movie in movies.tolist()]]
        np.testing.assert_allclose(found, of_these, atol=1e-6, rtol=0)


def test_two_networks_answer_differently(recommendations):
    first, second = (recommendations.recommend(1, 20, model=name)[1] for name in COMPARED)
    assert not np.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("model", ["svd", "DLRM", " ", LONG])
def test_a_network_that_is_not_served_is_refused(recommendations, model):
    with pytest.raises(BadRequest, match="choose one of dlrm, ncf") as caught:
        recommendations.recommend(1, model=model)
    assert len(str(caught.value)) < 120


def test_someone_without_an_id_is_answered_as_an_unknown_one(recommendations):
    for history in (NO_MOVIES, np.array([30, 10, 500])):
        same(recommendations.recommend(None, 10, history), recommendations.recommend(UNKNOWN[0], 10, history))


@pytest.mark.parametrize("user", [1, 3, 59, 119])
def test_equal_scores_keep_the_order_of_the_catalogue(served, searching, ranking, user):
    """The movies' rows copied from ten of them: many movies score the same."""
    ids, own = catalogue(served), rated_by(served)[user]
    ten = np.arange(MOVIES) % 10
    ranking.vector, ranking.hidden = ranking.vector[ten], ranking.hidden[ten]
    row = searching.users(np.array([user]))[0]
    everything = ranking.network.score_row(ranking.network.user[row], ranking.vector, ranking.hidden)
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

    def __init__(self, ranking: Ranking):
        self.asked = ranking

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [-self.asked.network.score_row(inputs["user"], self.asked.vector, self.asked.hidden)]


def test_without_a_strategy_the_network_s_is_taken(searching, ranking):
    assert ranking.strategy == "exact"  # what export finds best for so few movies
    same(searching.recommend(1), searching.recommend(1, strategy="exact"))
    searching.candidates, ranking.query = 10, WorstFirst(ranking)
    exact = searching.recommend(1, 1, strategy="exact")
    same(searching.recommend(1, 1), exact)
    ranking.strategy = "two-stage"
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


@pytest.fixture
def two_stages(searching, monkeypatch) -> Callable[..., tuple[np.ndarray, np.ndarray, bool]]:
    """`recommend` in two stages with so many candidates, whatever `k` is."""
    monkeypatch.setattr(recommending, "CANDIDATES_PER_K", 1)

    def recommend(user: int, k: int, candidates: int, history: np.ndarray = NO_MOVIES) -> tuple:
        searching.candidates = candidates
        return searching.recommend(user, k, history, "two-stage")

    return recommend


@pytest.mark.parametrize("candidates", [12, 30, 60])
def test_two_stages_rank_the_nearest_open_movies(served, searching, ranking, two_stages, candidates):
    """For every user, against the first stage done by hand and the exact answer."""
    ids = catalogue(served)
    place = {movie: i for i, movie in enumerate(ids.tolist())}
    missed = 0
    for user, own in rated_by(served).items():
        row = ranking.network.user[searching.users(np.array([user]))[0]]
        near = ranking.query.run(None, {"user": row, "movie": ranking.retrieval})[0]
        open_places = [i for i, movie in enumerate(ids.tolist()) if movie not in own]
        last = sorted((near[i] for i in open_places), reverse=True)[candidates - 1]
        nearest = {i for i in open_places if near[i] >= last}  # more than asked for where the last ones are equal
        exact_ids, exact, _ = searching.recommend(user, 1000, strategy="exact")
        score = dict(zip(exact_ids.tolist(), exact.tolist()))
        movies, found, known = two_stages(user, 12, candidates)
        assert known is True
        assert (movies.dtype, found.dtype) == (np.int64, np.float32)
        assert len(set(movies.tolist())) == len(movies) == 12
        assert not own & set(movies.tolist())
        assert {place[movie] for movie in movies.tolist()} <= nearest
        np.testing.assert_allclose(found, [score[movie] for movie in movies.tolist()], atol=1e-6, rtol=0)
        ties = [i for i in nearest if near[i] == last]
        free = candidates - (len(nearest) - len(ties))  # places for those that are equally near: any of them
        ways = (
            sorted((score[ids[i]] for i in nearest - left_out), reverse=True)[:12]
            for left_out in map(set, combinations(ties, len(ties) - free))
        )
        assert any(np.allclose(found, best_of_them, atol=1e-6, rtol=0) for best_of_them in ways)
        missed += not np.allclose(found, exact[:12], atol=1e-6)
    assert missed or candidates > 12  # what so few candidates leave out shows


def test_equal_scores_keep_the_order_of_the_catalogue_in_two_stages(served, ranking, two_stages):
    """Every movie's row is the same one, so all score the same; the candidates are others for each user."""
    ids = catalogue(served).tolist()
    first = np.zeros(MOVIES, int)
    ranking.vector, ranking.hidden = ranking.vector[first], ranking.hidden[first]
    chosen = set()
    for user in rated_by(served):
        movies, found, _ = two_stages(user, 20, 20)
        assert np.ptp(found) == 0
        places = [ids.index(movie) for movie in movies.tolist()]
        assert places == sorted(places)
        chosen.add(tuple(places))
    assert len(chosen) > 30


def test_from_half_of_the_catalogue_on_all_of_it_is_scored(searching, ranking, two_stages):
    ranking.query = WorstFirst(ranking)
    exact = searching.recommend(1, 5, strategy="exact")
    assert two_stages(1, 5, 60)[1][0] < exact[1][0]
    for candidates in (61, MOVIES, 500):
        same(two_stages(1, 5, candidates), exact)


def test_candidates_grow_with_k(searching, ranking, monkeypatch):
    ranking.query, searching.candidates = WorstFirst(ranking), 1
    monkeypatch.setattr(recommending, "CANDIDATES_PER_K", 10)
    assert searching.recommend(1, 6, strategy="two-stage")[1][0] < searching.recommend(1, 6, strategy="exact")[1][0]
    same(searching.recommend(1, 7, strategy="two-stage"), searching.recommend(1, 7, strategy="exact"))


def test_with_all_open_movies_as_candidates_two_stages_are_exact(served, searching, ranking, two_stages):
    """So many are excluded that 60 candidates are all that is left."""
    ids, own = catalogue(served), rated_by(served)
    for user in (1, 59, 119):
        history = np.array([movie for movie in ids.tolist() if movie not in own[user]][: 70 - len(own[user])])
        ranking.retrieval = -np.abs(np.array(ranking.retrieval))
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
