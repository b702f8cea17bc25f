"""Star biases, kNN with means and the SVD: tables that can be worked out by hand, and made-up stars."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import UserError
from models.baselines import stars as rating_baselines
from models.baselines.simple import biases_of
from models.baselines.stars import (
    BiasSettings,
    KnnMeans,
    KnnMeansSettings,
    StarBiases,
    Svd,
    SvdSettings,
    positive_pearson,
)
from models.data.features import Interactions

FIRST = 3  # the reserved indices have no ratings
MODELS = {
    "biases": (StarBiases, BiasSettings()),
    "svd": (Svd, SvdSettings(factors=3)),
    "movies": (KnnMeans, KnnMeansSettings(neighbours=3, shrinkage=5.0)),
    "users": (KnnMeans, KnnMeansSettings(neighbours=3, shrinkage=5.0, by="user")),
}
every_model = pytest.mark.parametrize("name", MODELS)


def interactions(user: np.ndarray, movie: np.ndarray, stars: np.ndarray) -> Interactions:
    """Ratings whose other columns do not matter here."""
    given = {
        "user": torch.tensor(user, dtype=torch.int32),
        "movie": torch.tensor(movie, dtype=torch.int32),
        "label": torch.tensor(stars, dtype=torch.float32),
    }
    other = torch.zeros(len(user))
    return Interactions(**{column.name: given.get(column.name, other) for column in fields(Interactions)})


def table(stars: list[list[float]]) -> tuple[Interactions, int, int]:
    """A row for a user, a column for a movie, 0 for no rating; the last user and the last movie have none."""
    matrix = np.array(stars)
    user, movie = np.nonzero(matrix)
    train = interactions(user + FIRST, movie + FIRST, matrix[user, movie])
    return train, len(matrix) + FIRST + 1, matrix.shape[1] + FIRST + 1


def fitted(name: str, train: Interactions, users: int, movies: int, seed: int = 42) -> Callable:
    model, settings = MODELS[name]
    return model(train, users, movies, settings, seed)


def pairs(users: int, movies: int) -> tuple[np.ndarray, np.ndarray]:
    """Every user with every movie."""
    return np.repeat(np.arange(users), movies), np.tile(np.arange(movies), users)


def made_up(seed: int = 0) -> np.ndarray:
    """Half stars of 36 users and 26 movies of two tastes, half of them missing (0)."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(36, 2)) @ rng.normal(size=(2, 26))
    stars = np.clip(np.round(2 * (3.2 + taste + rng.normal(scale=0.2, size=taste.shape))) / 2, 0.5, 5)
    return np.where(rng.random(stars.shape) < 0.5, stars, 0)


MADE_UP = table(made_up())
FITTED = {name: fitted(name, *MADE_UP) for name in MODELS}


# -- biases by hand ----------------------------------------------------------------------------------------------------


def test_star_biases_of_two_users_and_two_movies():
    train, users, movies = table([[5, 4], [4, 1]])  # the mean is 3.5; movies are 2 and -2 from it in all
    mean, movie, user = biases_of(train, users, movies, shrinkage=2.0)
    assert mean == 3.5
    np.testing.assert_allclose(movie, [0, 0, 0, 2 / 4, -2 / 4, 0])
    # What is left: 1 and 1 of the first user, 0 and -2 of the second.
    np.testing.assert_allclose(user, [0, 0, 0, 2 / 4, -2 / 4, 0])
    assert movie.dtype == user.dtype == np.float64


def test_a_prediction_of_biases_is_their_sum():
    biases = StarBiases(*table([[5, 4], [4, 1]]), BiasSettings(shrinkage=2.0))
    scores = biases(np.array([3, 3, 4, 4, 5, 3, 5, 0]), np.array([3, 4, 3, 4, 3, 5, 5, 0]))
    assert scores.tolist() == [4.5, 3.5, 3.5, 2.5, 4, 4, 3.5, 3.5]


# -- similar movies by hand --------------------------------------------------------------------------------------------

# With means that are not shrunk, 3, 3, 3 and 3: deviations of 2, -2, 0 and so on.
BY_HAND = [[5, 4, 1, 0], [1, 2, 5, 4], [3, 0, 3, 2], [0, 3, 3, 3]]


def test_similarity_by_hand():
    from scipy.sparse import csr_matrix

    stars = np.array(BY_HAND)
    user, movie = np.nonzero(stars)
    deviation = csr_matrix(((stars[user, movie] - 3).astype(np.float32), (user, movie)))
    similarity = positive_pearson(deviation, shrinkage=2.0)
    # Movies 0 and 1 share users 0 and 1: (2 * 1 + -2 * -1) / sqrt((4 + 4) * (1 + 1)) = 1, times 2 / (2 + 2).
    # Movies 2 and 3 share users 1, 2 and 3: (2 * 1 + 0 + 0) / sqrt(4 * (1 + 1)), times 3 / (3 + 2).
    # All others are opposed.
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 1 / 2
    expected[2, 3] = expected[3, 2] = 2 / np.sqrt(8) * 3 / 5
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)
    assert similarity.dtype == np.float32


def test_similarity_counts_the_users_whose_deviation_is_nothing():
    from scipy.sparse import csr_matrix

    deviation = csr_matrix((np.array([1, 1, 0, 0], np.float32), ([0, 0, 1, 1], [0, 1, 0, 1])))
    assert positive_pearson(deviation, shrinkage=2.0)[0, 1] == pytest.approx(2 / 4)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_similarity_in_blocks_is_that_of_a_plain_loop(monkeypatch, rows):
    from scipy.sparse import csr_matrix

    monkeypatch.setattr(rating_baselines, "ROWS_AT_ONCE", rows)
    stars = made_up(seed=3)
    user, movie = np.nonzero(stars)
    value = (stars[user, movie] - 3).astype(np.float32)
    similarity = positive_pearson(csr_matrix((value, (user, movie)), shape=stars.shape), shrinkage=10.0)
    for i in range(0, stars.shape[1], 5):
        for j in range(stars.shape[1]):
            common = (stars[:, i] > 0) & (stars[:, j] > 0)
            a, b = stars[common, i] - 3, stars[common, j] - 3
            r = a @ b / np.sqrt((a @ a) * (b @ b)) * common.sum() / (common.sum() + 10)
            assert similarity[i, j] == pytest.approx(0 if i == j else max(r, 0), rel=1e-5)


@pytest.fixture
def plain_means(monkeypatch):
    monkeypatch.setattr(rating_baselines, "MEAN_SHRINKAGE", 0.0)
    # Rows of things without ratings would be 0 / 0.
    plain = rating_baselines.shrunk_mean
    monkeypatch.setattr(rating_baselines, "shrunk_mean", lambda *args: np.nan_to_num(plain(*args)))


@pytest.mark.usefixtures("plain_means")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_knn_adds_the_neighbours_mean_deviation():
    # Movies 0 to 2 have been rated alike by users 0 and 1, movie 3 the other way round. Means are 3.
    train, users, movies = table([[4, 4, 5, 1], [2, 2, 1, 5], [0, 5, 2, 4], [0, 1, 4, 2]])
    knn = KnnMeans(train, users, movies, KnnMeansSettings(neighbours=5, shrinkage=0.0))
    np.testing.assert_allclose(knn.mean[FIRST:], 3)
    s = knn.similarity[FIRST, FIRST:]
    # Of movie 0 with 1: (1 + 1) / sqrt(2 * 2); with 2: (2 + 2) / sqrt(2 * 8): both 1; with 3 it is -1.
    np.testing.assert_allclose(s, [0, 1, 1, 0, 0], atol=1e-6)
    # User 2 gave movies 1 and 2 two more and one less than their means: (2 - 1) / 2. User 3 the opposite.
    scores = knn(np.array([5, 6]), np.array([3, 3]))
    np.testing.assert_allclose(scores, [3.5, 2.5], rtol=1e-6)


@pytest.mark.usefixtures("plain_means")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_knn_keeps_the_nearest_and_weighs_them():
    # Movie 0 is like movie 1 (four users agree) and less like movie 2 (one of the four has no deviation).
    train, users, movies = table([[4, 4, 4], [2, 2, 2], [4, 4, 3], [2, 2, 3], [0, 4, 1], [0, 2, 5]])
    all_of_them = KnnMeans(train, users, movies, KnnMeansSettings(neighbours=2, shrinkage=0.0))
    near, far = all_of_them.similarity[FIRST, FIRST + 1 : FIRST + 3]
    np.testing.assert_allclose([near, far], [1, 2 / np.sqrt(4 * 2)], rtol=1e-6)
    user, movie = np.array([7, 8]), np.array([3, 3])
    shift = (near * 1 + far * -2) / (near + far)
    np.testing.assert_allclose(all_of_them(user, movie), [3 + shift, 3 - shift], rtol=1e-6)
    nearest = KnnMeans(train, users, movies, KnnMeansSettings(neighbours=1, shrinkage=0.0))
    np.testing.assert_allclose(nearest(user, movie), [4, 2], rtol=1e-6)


def test_knn_shrinks_means():
    knn = KnnMeans(*table([[5, 4], [4, 1]]), KnnMeansSettings())
    np.testing.assert_allclose(knn.mean, [3.5, 3.5, 3.5, 3.5 + 2 / 7, 3.5 - 2 / 7, 3.5])


def test_knn_by_user_is_knn_by_movie_of_the_table_on_its_side():
    stars = made_up(seed=1)
    users, movies = stars.shape[0] + FIRST + 1, stars.shape[1] + FIRST + 1
    user, movie = pairs(users, movies)
    by_user = KnnMeans(*table(stars), KnnMeansSettings(5, 10.0, "user"))(user, movie)
    by_movie = KnnMeans(*table(stars.T), KnnMeansSettings(5, 10.0, "movie"))(movie, user)
    np.testing.assert_array_equal(by_user, by_movie)


def test_a_movie_is_no_neighbour_of_its_own():
    """Or the answer for a training rating would be that rating."""
    assert not FITTED["movies"].similarity.diagonal().any()


@pytest.mark.parametrize("by", ["movie", "user"])
def test_knn_refuses_what_would_not_fit(monkeypatch, by):
    monkeypatch.setattr(rating_baselines, "MOST_SIMILAR", 5)
    with pytest.raises(UserError, match=f"6 {by}s, at most 5") as error:
        KnnMeans(*table([[5, 4], [4, 1]]), KnnMeansSettings(by=by))
    assert "\n" not in str(error.value)


def test_knn_is_by_movie_or_by_user():
    with pytest.raises(ValueError, match="movies"):
        KnnMeans(*table([[5, 4], [4, 1]]), KnnMeansSettings(by="movies"))


# -- SVD ---------------------------------------------------------------------------------------------------------------


def test_svd_restores_a_table_whose_rank_is_its_factors():
    stars = 3 + np.outer([1, -1, 1, -1, 0.5], [1.5, -1.5, 1, -1])
    train, users, movies = table(stars)
    svd = Svd(train, users, movies, SvdSettings(factors=2, shrinkage=1.0, scale=1.0))
    np.testing.assert_allclose(svd(train.user.long().numpy(), train.movie.long().numpy()), stars.ravel(), atol=1e-5)
    half = Svd(train, users, movies, SvdSettings(factors=2, shrinkage=1.0, scale=0.5))
    biases = StarBiases(train, users, movies, BiasSettings(1.0))
    user, movie = np.array([3]), np.array([3])
    np.testing.assert_allclose(half(user, movie), (svd(user, movie) + biases(user, movie)) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["svd", "movies", "users"])
def test_it_beats_biases_where_tastes_differ(name):
    rng = np.random.default_rng(5)
    stars = np.clip(3 + rng.choice([-1, 1], (80, 1)) * rng.choice([-1, 1], 60) + rng.normal(0, 0.3, (80, 60)), 0.5, 5)
    held_out = rng.random(stars.shape) < 0.3
    train, users, movies = table(np.where(held_out, 0, stars))
    user, movie = np.nonzero(held_out)

    def rmse(model: str) -> float:
        scores = fitted(model, train, users, movies)(user + FIRST, movie + FIRST)
        return float(np.sqrt(np.mean((scores - stars[user, movie]) ** 2)))

    assert rmse("biases") > 0.9
    assert rmse(name) < 0.6


def test_svd_of_a_table_with_fewer_rows_than_factors():
    train, users, movies = table([[5, 4], [4, 1]])
    scores = Svd(train, users, movies, SvdSettings(factors=100))(*pairs(users, movies))
    assert np.isfinite(scores).all()


# -- what holds for all ------------------------------------------------------------------------------------------------


@every_model
def test_predictions_are_clipped_to_the_stars_of_training(name):
    train, users, movies = table([[5, 5, 5, 2], [5, 5, 5, 2], [2, 2, 2, 2], [5, 5, 0, 0]])
    model = fitted(name, train, users, movies)
    scores = model(*pairs(users, movies))
    assert scores.min() >= 2
    assert scores.max() <= 5
    assert (model.low, model.high) == (2, 5)
    constant = table([[4, 4], [4, 0]])
    np.testing.assert_array_equal(fitted(name, *constant)(*pairs(*constant[1:])), 4)


def test_clipping_is_what_keeps_biases_in_range():
    # What is asked of the generous user's best movie is 4 + 5 / 3, of the harsh one's worst 3 - 4 / 3.
    biases = StarBiases(*table([[5, 5, 5], [5, 2, 2], [2, 2, 2]]), BiasSettings(0.01))
    unclipped = biases.mean + biases.movie[None, :] + biases.user[:, None]
    np.testing.assert_allclose([unclipped.max(), unclipped.min()], [4 + 5 / 3, 3 - 4 / 3], atol=0.02)
    np.testing.assert_allclose(biases(*pairs(*unclipped.shape)), np.clip(unclipped, 2, 5).ravel(), rtol=1e-6)


@every_model
def test_an_unseen_user_with_an_unseen_movie_gets_the_mean(name):
    train, users, movies = MADE_UP
    model = FITTED[name]
    mean = train.label.double().mean().item()
    np.testing.assert_allclose(model(np.array([users - 1, 0]), np.array([movies - 1, 2])), mean, rtol=1e-6)
    scores = model(*pairs(users, movies))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert not model.is_probability


def test_knn_without_neighbours_gives_the_mean_of_its_own():
    _, users, movies = MADE_UP
    by_movie, by_user = FITTED["movies"], FITTED["users"]
    of_new_user = by_movie(np.full(movies, users - 1), np.arange(movies))
    np.testing.assert_allclose(of_new_user, by_movie.mean, rtol=1e-6)
    of_new_movie = by_user(np.arange(users), np.full(users, movies - 1))
    np.testing.assert_allclose(of_new_movie, by_user.mean, rtol=1e-6)


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
@pytest.mark.parametrize("block", ["CELLS_AT_ONCE", "PAIRS_AT_ONCE"])
def test_blocks_do_not_change_predictions(name, block, monkeypatch):
    asked = pairs(*MADE_UP[1:])
    expected = FITTED[name](*asked)
    monkeypatch.setattr(rating_baselines, block, 7)
    np.testing.assert_array_equal(FITTED[name](*asked), expected)


@every_model
def test_it_is_deterministic(name):
    asked = pairs(*MADE_UP[1:])
    np.testing.assert_array_equal(fitted(name, *MADE_UP)(*asked), FITTED[name](*asked))


@pytest.mark.parametrize("name", ["biases", "movies", "users"])
@hypothesis_settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_numbering_the_users_and_movies_otherwise_changes_nothing(name, seed):
    train, users, movies = MADE_UP
    rng = np.random.default_rng(seed)
    user_to, movie_to = (np.append(np.arange(FIRST), FIRST + rng.permutation(n - FIRST)) for n in (users, movies))
    renumbered = interactions(user_to[train.user.numpy()], movie_to[train.movie.numpy()], train.label.numpy())
    user, movie = pairs(users, movies)
    scores = fitted(name, renumbered, users, movies)(user_to[user], movie_to[movie])
    np.testing.assert_allclose(scores, FITTED[name](user, movie), rtol=1e-4)
