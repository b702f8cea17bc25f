"""Biases of labels and of stars, worked out by hand on small tables, and the contract."""

import numpy as np
import pytest

from models.baselines.biases import Biases, BiasSettings, StarBiases, biases_of
from tests.models.baselines.contracts import (
    BaselineContract,
    StarContract,
    TrainingData,
    all_scores,
    star_table,
    training_data,
)


class TestBiases(BaselineContract):
    key = "classification/biases"


class TestStarBiases(StarContract):
    key = "rating/biases"
    learns_tastes = False


def six_ratings(movies: int = 7, label: tuple[float, ...] = (1, 1, 0, 1, 0, 0)) -> TrainingData:
    """Users 3 and 4, movies 3 to 5; the mean label is 1/2."""
    return training_data([3, 3, 3, 4, 4, 4], [3, 4, 5, 3, 5, 4], 6, movies, label)


def test_biases_without_shrinkage_are_mean_residuals():
    biases = Biases(six_ratings(movies=6), BiasSettings(shrinkage=1e-12), 0)
    assert biases.mean == 0.5
    # Movie 3 was liked twice of two, movie 4 once, movie 5 never; what is left of each user averages to +-1/6.
    np.testing.assert_allclose(biases.movie[3:], [0.5, 0, -0.5], atol=1e-9)
    np.testing.assert_allclose(biases.user[3:5], [1 / 6, -1 / 6], atol=1e-9)


def test_biases_are_shrunk_as_if_more_ratings_had_been_average():
    biases = Biases(six_ratings(), BiasSettings(shrinkage=5), 0)
    movie = np.array([1 / 7, 0, -1 / 7])  # residuals that sum to 1, 0 and -1, over 2 + 5 ratings
    np.testing.assert_allclose(biases.movie[3:6], movie, rtol=1e-12, atol=1e-15)
    user_3 = ((0.5 - 1 / 7) + 0.5 + (-0.5 + 1 / 7)) / 8
    user_4 = ((0.5 - 1 / 7) + (-0.5 + 1 / 7) - 0.5) / 8
    np.testing.assert_allclose(biases.user[3:5], [user_3, user_4], rtol=1e-12)
    scores = biases(np.array([3, 4]), np.array([4, 5]))
    np.testing.assert_allclose(scores, [0.5 + user_3, 0.5 - 1 / 7 + user_4], rtol=1e-6)
    assert scores.dtype == np.float32


def test_an_unseen_user_and_movie_get_the_mean():
    biases = Biases(six_ratings(), BiasSettings(), 0)
    assert biases(np.array([5]), np.array([6])).tolist() == [0.5]
    assert biases.is_probability


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_biases_stay_inside_zero_and_one(label):
    scores = Biases(six_ratings(label=(label,) * 6), BiasSettings(), 0)(np.array([3, 4]), np.array([3, 6]))
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_allclose(scores, label, atol=0.01)


# -- stars -------------------------------------------------------------------------------------------------------------


def test_star_biases_of_two_users_and_two_movies():
    data = star_table([[5, 4], [4, 1]])  # the mean is 3.5; movies are 2 and -2 from it in all
    mean, movie, user = biases_of(data, shrinkage=2.0)
    assert mean == 3.5
    np.testing.assert_allclose(movie, [0, 0, 0, 2 / 4, -2 / 4, 0])
    # What is left: 1 and 1 of the first user, 0 and -2 of the second.
    np.testing.assert_allclose(user, [0, 0, 0, 2 / 4, -2 / 4, 0])
    assert movie.dtype == user.dtype == np.float64


def test_a_prediction_of_biases_is_their_sum():
    biases = StarBiases(star_table([[5, 4], [4, 1]]), BiasSettings(shrinkage=2.0), 0)
    scores = biases(np.array([3, 3, 4, 4, 5, 3, 5, 0]), np.array([3, 4, 3, 4, 3, 5, 5, 0]))
    assert scores.tolist() == [4.5, 3.5, 3.5, 2.5, 4, 4, 3.5, 3.5]


def test_clipping_is_what_keeps_biases_in_range():
    # What is asked of the generous user's best movie is 4 + 5 / 3, of the harsh one's worst 3 - 4 / 3.
    data = star_table([[5, 5, 5], [5, 2, 2], [2, 2, 2]])
    biases = StarBiases(data, BiasSettings(0.01), 0)
    unclipped = biases.mean + biases.movie[None, :] + biases.user[:, None]
    np.testing.assert_allclose([unclipped.max(), unclipped.min()], [4 + 5 / 3, 3 - 4 / 3], atol=0.02)
    np.testing.assert_allclose(all_scores(biases, data), np.clip(unclipped, 2, 5), rtol=1e-6)
