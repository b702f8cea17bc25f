"""Popularity and biases, worked out by hand on a table of six ratings."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from models.baselines.simple import Biases, Popularity
from models.data.features import Interactions

USERS, MOVIES = 6, 7


def table() -> Interactions:
    """Users 3 and 4, movies 3 to 5; the mean label is 1/2."""
    rows = [(3, 3, 1), (3, 4, 1), (3, 5, 0), (4, 3, 1), (4, 5, 0), (4, 4, 0)]
    user, movie, label = (torch.tensor(column) for column in zip(*rows))
    return interactions(user, movie, label.float())


def interactions(user: torch.Tensor, movie: torch.Tensor, label: torch.Tensor) -> Interactions:
    """Rows whose other columns do not matter here."""
    given = {"user": user, "movie": movie, "label": label}
    return Interactions(
        **{column.name: given.get(column.name, torch.zeros_like(user)) for column in fields(Interactions)}
    )


def test_popularity_counts_training_ratings():
    train = table()
    more = interactions(*(torch.cat([column, column[:1]]) for column in (train.user, train.movie, train.label)))
    popularity = Popularity(more, USERS, MOVIES)
    scores = popularity(np.array([3, 4, 3, 4, 5, 3]), np.array([3, 3, 4, 5, 6, 0]))
    assert scores.tolist() == [3, 3, 2, 2, 0, 0]
    assert scores.dtype == np.float32
    assert not popularity.is_probability


def test_biases_without_shrinkage_are_mean_residuals():
    biases = Biases(table(), USERS, 6, shrinkage=1e-12)
    assert biases.mean == 0.5
    # Movie 3 was liked twice of two, movie 4 once, movie 5 never; what is left of each user averages to +-1/6.
    np.testing.assert_allclose(biases.movie[3:], [0.5, 0, -0.5], atol=1e-9)
    np.testing.assert_allclose(biases.user[3:5], [1 / 6, -1 / 6], atol=1e-9)


def test_biases_are_shrunk_as_if_more_ratings_had_been_average():
    biases = Biases(table(), USERS, MOVIES, shrinkage=5)
    movie = np.array([1 / 7, 0, -1 / 7])  # residuals that sum to 1, 0 and -1, over 2 + 5 ratings
    np.testing.assert_allclose(biases.movie[3:6], movie, rtol=1e-12, atol=1e-15)
    user_3 = ((0.5 - 1 / 7) + 0.5 + (-0.5 + 1 / 7)) / 8
    user_4 = ((0.5 - 1 / 7) + (-0.5 + 1 / 7) - 0.5) / 8
    np.testing.assert_allclose(biases.user[3:5], [user_3, user_4], rtol=1e-12)
    scores = biases(np.array([3, 4]), np.array([4, 5]))
    np.testing.assert_allclose(scores, [0.5 + user_3, 0.5 - 1 / 7 + user_4], rtol=1e-6)
    assert scores.dtype == np.float32


def test_an_unseen_user_and_movie_get_the_mean():
    biases = Biases(table(), USERS, MOVIES)
    assert biases(np.array([5]), np.array([6])).tolist() == [0.5]
    assert biases.is_probability


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_biases_stay_inside_zero_and_one(label):
    train = table()
    constant = replace(train, label=torch.full((6,), label))
    scores = Biases(constant, USERS, MOVIES)(np.array([3, 4]), np.array([3, 6]))
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_allclose(scores, label, atol=0.01)
