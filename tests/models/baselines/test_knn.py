"""k-NN with means: tables that can be worked out by hand, and the contract for similar movies and similar users."""

import numpy as np
import pytest

from core.errors import UserError
from models.baselines import knn
from models.baselines.knn import KnnMeans, KnnMeansSettings, positive_pearson
from tests.contracts.scorers import every_pair, synthetic_stars
from tests.models.baselines.contracts import StarContract, star_table
from workflows.features.vocabulary import FIRST_INDEX


class TestByMovie(StarContract):
    key = "rating/knn"
    settings = KnnMeansSettings(neighbours=3, shrinkage=5.0)
    blocks = ((knn, "CELLS_AT_ONCE"),)


class TestByUser(TestByMovie):
    settings = KnnMeansSettings(neighbours=3, shrinkage=5.0, by="user")


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

    monkeypatch.setattr(knn, "ROWS_AT_ONCE", rows)
    stars = synthetic_stars(36, 26, seed=3)
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
    monkeypatch.setattr(knn, "MEAN_SHRINKAGE", 0.0)
    # Rows of things without ratings would be 0 / 0.
    plain = knn.shrunk_mean
    monkeypatch.setattr(knn, "shrunk_mean", lambda *args: np.nan_to_num(plain(*args)))


@pytest.mark.usefixtures("plain_means")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_knn_adds_the_neighbours_mean_deviation():
    # Movies 0 to 2 have been rated alike by users 0 and 1, movie 3 the other way round. Means are 3.
    data = star_table([[4, 4, 5, 1], [2, 2, 1, 5], [0, 5, 2, 4], [0, 1, 4, 2]])
    model = KnnMeans(data, KnnMeansSettings(neighbours=5, shrinkage=0.0), 0)
    np.testing.assert_allclose(model.mean[FIRST_INDEX:], 3)
    s = model.similarity[FIRST_INDEX, FIRST_INDEX:]
    # Of movie 0 with 1: (1 + 1) / sqrt(2 * 2); with 2: (2 + 2) / sqrt(2 * 8): both 1; with 3 it is -1.
    np.testing.assert_allclose(s, [0, 1, 1, 0, 0], atol=1e-6)
    # User 2 gave movies 1 and 2 two more and one less than their means: (2 - 1) / 2. User 3 the opposite.
    scores = model(np.array([5, 6]), np.array([3, 3]))
    np.testing.assert_allclose(scores, [3.5, 2.5], rtol=1e-6)


@pytest.mark.usefixtures("plain_means")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_knn_keeps_the_nearest_and_weighs_them():
    # Movie 0 is like movie 1 (four users agree) and less like movie 2 (one of the four has no deviation).
    data = star_table([[4, 4, 4], [2, 2, 2], [4, 4, 3], [2, 2, 3], [0, 4, 1], [0, 2, 5]])
    all_of_them = KnnMeans(data, KnnMeansSettings(neighbours=2, shrinkage=0.0), 0)
    near, far = all_of_them.similarity[FIRST_INDEX, FIRST_INDEX + 1 : FIRST_INDEX + 3]
    np.testing.assert_allclose([near, far], [1, 2 / np.sqrt(4 * 2)], rtol=1e-6)
    user, movie = np.array([7, 8]), np.array([3, 3])
    shift = (near * 1 + far * -2) / (near + far)
    np.testing.assert_allclose(all_of_them(user, movie), [3 + shift, 3 - shift], rtol=1e-6)
    nearest = KnnMeans(data, KnnMeansSettings(neighbours=1, shrinkage=0.0), 0)
    np.testing.assert_allclose(nearest(user, movie), [4, 2], rtol=1e-6)


def test_knn_shrinks_means():
    model = KnnMeans(star_table([[5, 4], [4, 1]]), KnnMeansSettings(), 0)
    np.testing.assert_allclose(model.mean, [3.5, 3.5, 3.5, 3.5 + 2 / 7, 3.5 - 2 / 7, 3.5])


def test_knn_by_user_is_knn_by_movie_of_the_table_on_its_side():
    stars = synthetic_stars(36, 26, seed=1)
    data = star_table(stars)
    user, movie = every_pair(data.users, data.movies)
    by_user = KnnMeans(data, KnnMeansSettings(5, 10.0, "user"), 0)(user, movie)
    by_movie = KnnMeans(star_table(stars.T), KnnMeansSettings(5, 10.0, "movie"), 0)(movie, user)
    np.testing.assert_array_equal(by_user, by_movie)


def test_a_movie_is_not_a_neighbour_of_itself():
    """Or the answer for a training rating would be that rating."""
    assert not TestByMovie().scorer().similarity.diagonal().any()


@pytest.mark.parametrize("by", ["movie", "user"])
def test_knn_refuses_what_would_not_fit(monkeypatch, by):
    monkeypatch.setattr(knn, "MOST_SIMILAR", 5)
    with pytest.raises(UserError, match=f"6 {by}s, at most 5") as error:
        KnnMeans(star_table([[5, 4], [4, 1]]), KnnMeansSettings(by=by), 0)
    assert "\n" not in str(error.value)


def test_knn_is_by_movie_or_by_user():
    with pytest.raises(ValueError, match="movies"):
        KnnMeansSettings(by="movies")


def test_knn_without_neighbours_gives_the_mean_of_its_own():
    by_movie, by_user = TestByMovie().scorer(), TestByUser().scorer()
    users, movies = TestByMovie.users, TestByMovie.movies
    of_new_user = by_movie(np.full(movies, users - 1), np.arange(movies))
    np.testing.assert_allclose(of_new_user, by_movie.mean, rtol=1e-6)
    of_new_movie = by_user(np.arange(users), np.full(users, movies - 1))
    np.testing.assert_allclose(of_new_movie, by_user.mean, rtol=1e-6)
