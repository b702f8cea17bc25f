"""Item-kNN, EASE and ALS: a table that can be worked out by hand, a checkerboard, and made-up ratings."""

import warnings
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import UserError
from models.baselines import neighbours
from models.baselines.neighbours import Als, AlsSettings, Ease, EaseSettings, ItemKnn, KnnSettings, rated
from models.data.features import Interactions

FIRST = 3  # the reserved indices have no ratings
SMALL_ALS = AlsSettings(factors=2, regularization=0.05, alpha=5.0, iterations=10)
MODELS = {
    "cosine": (ItemKnn, KnnSettings(weighting="cosine")),
    "tfidf": (ItemKnn, KnnSettings(weighting="tfidf")),
    "bm25": (ItemKnn, KnnSettings()),
    "als": (Als, SMALL_ALS),
    "ease": (Ease, EaseSettings(l2=2.0)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def interactions(user: list[int] | np.ndarray, movie: list[int] | np.ndarray) -> Interactions:
    """Ratings whose other columns do not matter here."""
    given = {"user": torch.tensor(user, dtype=torch.int32), "movie": torch.tensor(movie, dtype=torch.int32)}
    other = torch.zeros(len(user))
    return Interactions(**{column.name: given.get(column.name, other) for column in fields(Interactions)})


def fitted(name: str, train: Interactions, users: int, movies: int, seed: int = 42) -> Callable:
    model, settings = MODELS[name]
    return model(train, users, movies, settings, seed)


def pairs(users: int, movies: int) -> tuple[np.ndarray, np.ndarray]:
    """Every user with every movie."""
    return np.repeat(np.arange(users), movies), np.tile(np.arange(movies), users)


def made_up(users: int = 40, movies: int = 30, seed: int = 0) -> tuple[Interactions, int, int]:
    """Ratings at random; the last user and the last movie have none."""
    there = np.random.default_rng(seed).random((users, movies)) < 0.3
    there[:FIRST] = there[:, :FIRST] = there[-1] = there[:, -1] = False
    return interactions(*np.nonzero(there)), users, movies


MADE_UP = made_up()
FITTED = {name: fitted(name, *MADE_UP) for name in MODELS}


# -- EASE by hand ------------------------------------------------------------------------------------------------------


def test_ease_is_the_closed_form():
    # Users 3 to 5 rated movies {3, 4}, {3}, {4, 6}; nobody movie 5.
    train = interactions([3, 3, 4, 5, 5], [4, 3, 3, 6, 4])
    ease = Ease(train, 7, 8, EaseSettings(l2=1.0))
    # X'X + I over movies 3, 4 and 6, its determinant 3 * (3 * 2 - 1) - 1 * 2 = 13, and its inverse by cofactors:
    np.testing.assert_array_equal(np.array([[3, 1, 0], [1, 3, 1], [0, 1, 2]]) @ [[5, -2, 1], [-2, 6, -3], [1, -3, 8]],
                                  13 * np.eye(3))  # fmt: skip
    weights = np.array([[0, 2 / 6, -1 / 8], [2 / 5, 0, 3 / 8], [-1 / 5, 3 / 6, 0]])
    np.testing.assert_allclose(ease.weights, weights, rtol=1e-6)
    assert not ease.weights.diagonal().any()
    scores = ease(*pairs(7, 8)).reshape(7, 8)
    expected = np.zeros((7, 8))
    expected[3:6, [3, 4, 6]] = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]]) @ weights
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7)


def test_ease_computes_the_gram_matrix_in_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "USERS_AT_ONCE", 4)
    ease = fitted("ease", *MADE_UP)
    x = rated(*MADE_UP).toarray()[:, FIRST:-1].astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 2 * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(ease.weights, weights, atol=1e-6)


def test_ease_refuses_a_catalogue_that_is_too_large(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_MOVIES", 2)
    with pytest.raises(UserError, match="EASE: 3 rated movies, at most 2") as error:
        Ease(interactions([3, 3, 4], [3, 4, 5]), 5, 6, EaseSettings())
    assert "\n" not in str(error.value)
    Ease(interactions([3, 3, 4], [3, 5, 5]), 5, 6, EaseSettings())


# -- item-kNN against `implicit` ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("kept", [5, 100])
@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # of a matrix that `implicit` makes itself
def test_item_knn_scores_as_implicit_recommends(weighting, kept):
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    train, users, movies = MADE_UP
    knn = ItemKnn(train, users, movies, KnnSettings(kept, weighting, k1=2.0, b=0.5))
    model = {
        "cosine": lambda: CosineRecommender(kept),
        "tfidf": lambda: TFIDFRecommender(kept),
        "bm25": lambda: BM25Recommender(kept, 2.0, 0.5),
    }[weighting]()
    ratings = rated(train, users, movies)
    model.fit(ratings, show_progress=False)
    for user in range(FIRST, users - 1):
        ids, theirs = model.recommend(user, ratings[user], N=movies)
        unseen = ~np.isin(ids, ratings[user].indices)  # it puts the seen ones last, with zeros
        ids, theirs = ids[unseen], theirs[unseen]
        ours = knn(np.full(len(ids), user), ids)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert (np.diff(ours) <= 0).all()
        # It leaves out what scores nothing.
        others = np.setdiff1d(np.arange(movies), np.append(ids, ratings[user].indices))
        assert not knn(np.full(len(others), user), others).any()


def test_cosine_by_hand():
    # Movies 3, 4, 5 were rated by {3, 4}, {3}, {4, 5}: cosines 1 / sqrt(2) of 3 and 4, 1 / 2 of 3 and 5.
    train = interactions([3, 4, 3, 4, 5], [3, 3, 4, 5, 5])
    knn = ItemKnn(train, 7, 7, KnnSettings(weighting="cosine"))
    scores = knn(np.array([3, 4, 5, 5]), np.array([5, 4, 3, 4]))
    np.testing.assert_allclose(scores, [1 / 2, 1 / np.sqrt(2), 1 / 2, 0], rtol=1e-6)


# -- what holds for all ------------------------------------------------------------------------------------------------


@every_model
def test_a_checkerboard(name):
    """Even users have rated the even movies but their own one, odd users the odd ones."""
    size = 12
    user, movie = (index.reshape(size, size) for index in pairs(size, size))
    same, own = user % 2 == movie % 2, user == movie
    train = interactions(user[same & ~own] + FIRST, movie[same & ~own] + FIRST)
    model = fitted(name, train, size + FIRST, size + FIRST)
    scores = model(user.ravel() + FIRST, movie.ravel() + FIRST).reshape(size, size)
    unseen = np.where(same & ~own, -np.inf, scores)
    assert unseen.argmax(axis=1).tolist() == list(range(size))
    assert (scores[own] > scores[~same].max() + 0.1).all()


@every_model
def test_users_and_movies_without_ratings_score_nothing(name):
    _, users, movies = MADE_UP
    scores = FITTED[name](*pairs(users, movies)).reshape(users, movies)
    assert scores[FIRST:-1, FIRST:-1].any(axis=1).all()
    for nothing in (scores[:FIRST], scores[-1], scores[:, :FIRST], scores[:, -1]):
        assert not nothing.any()
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert not FITTED[name].is_probability


@every_model
@hypothesis_settings(max_examples=20, deadline=None)
@given(asked=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 29)), max_size=30))
def test_a_pair_scores_the_same_in_any_batch(name, asked):
    """Duplicates in any order, and no pairs at all, included."""
    model, (_, users, movies) = FITTED[name], MADE_UP
    everything = model(*pairs(users, movies)).reshape(users, movies)
    user, movie = np.array(asked, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(model(user, movie), everything[user, movie])
    one_by_one = [model(user[[i]], movie[[i]])[0] for i in range(len(user))]
    np.testing.assert_array_equal(one_by_one, everything[user, movie])


@every_model
@pytest.mark.parametrize("block", ["USERS_AT_ONCE", "CELLS_AT_ONCE", "PAIRS_AT_ONCE"])
def test_blocks_do_not_change_scores(name, block, monkeypatch):
    asked = pairs(*MADE_UP[1:])
    expected = FITTED[name](*asked)
    monkeypatch.setattr(neighbours, block, 7)
    np.testing.assert_array_equal(FITTED[name](*asked), expected)


@every_model
def test_the_order_of_the_ratings_and_one_that_comes_twice_do_not_matter(name):
    train, users, movies = MADE_UP
    order = np.random.default_rng(1).permutation(len(train.user))
    order = np.append(order, order[:5])
    shuffled = interactions(train.user.numpy()[order], train.movie.numpy()[order])
    asked = pairs(users, movies)
    np.testing.assert_array_equal(fitted(name, shuffled, users, movies)(*asked), FITTED[name](*asked))


@every_model
def test_it_is_deterministic_and_only_als_has_a_seed(name):
    asked = pairs(*MADE_UP[1:])
    np.testing.assert_array_equal(fitted(name, *MADE_UP)(*asked), FITTED[name](*asked))
    other = fitted(name, *MADE_UP, seed=1)(*asked)
    assert np.array_equal(other, FITTED[name](*asked)) == (name != "als")


@pytest.mark.parametrize("name", ["cosine", "tfidf", "bm25", "ease"])
@hypothesis_settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_numbering_the_users_and_movies_otherwise_changes_nothing(name, seed):
    train, users, movies = MADE_UP
    rng = np.random.default_rng(seed)
    user_to, movie_to = (np.append(np.arange(FIRST), FIRST + rng.permutation(n - FIRST)) for n in (users, movies))
    renumbered = interactions(user_to[train.user.numpy()], movie_to[train.movie.numpy()])
    user, movie = pairs(users, movies)
    scores = fitted(name, renumbered, users, movies)(user_to[user], movie_to[movie])
    np.testing.assert_allclose(scores, FITTED[name](user, movie), rtol=1e-4, atol=1e-5)


def test_als_restores_what_its_factors_can():
    train, users, movies = MADE_UP
    als = Als(train, users, movies, AlsSettings(factors=movies, regularization=1e-3, alpha=50.0, iterations=30))
    scores = als(train.user.long().numpy(), train.movie.long().numpy())
    np.testing.assert_allclose(scores, 1, atol=0.05)


@every_model
def test_it_is_quiet(name, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(name, *MADE_UP)
    assert capfd.readouterr() == ("", "")
