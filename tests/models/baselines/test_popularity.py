"""Popularity: a table of a few ratings, and the contract."""

import numpy as np

from models.baselines.base import NoSettings
from models.baselines.popularity import Popularity
from tests.models.baselines.contracts import BaselineContract, training_data


class TestPopularity(BaselineContract):
    key = "ranking/popularity"


class TestPopularityOfTheRandomSplit(BaselineContract):
    key = "classification/popularity"


def test_popularity_counts_training_ratings():
    data = training_data([3, 3, 3, 4, 4, 4, 3], [3, 4, 5, 3, 5, 4, 3], 6, 7)
    popularity = Popularity(data, NoSettings(), 0)
    scores = popularity(np.array([3, 4, 3, 4, 5, 3]), np.array([3, 3, 4, 5, 6, 0]))
    assert scores.tolist() == [3, 3, 2, 2, 0, 0]
    assert scores.dtype == np.float32
    assert not popularity.is_probability
