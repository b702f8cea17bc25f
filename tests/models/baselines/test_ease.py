"""EASE: a table that can be worked out by hand, and the contract."""

import numpy as np
import pytest

from core.errors import UserError
from models.baselines import ease, neighbourhood
from models.baselines.ease import Ease, EaseSettings
from models.baselines.matrix import rated_matrix
from tests.models.baselines.contracts import ImplicitContract, TrainingData, all_scores, training_data
from workflows.features.vocabulary import FIRST_INDEX


class TestEase(ImplicitContract):
    key = "ranking/ease"
    settings = EaseSettings(l2=2.0)
    blocks = ((neighbourhood, "USERS_AT_ONCE"), (neighbourhood, "CELLS_AT_ONCE"))

    def test_the_gram_matrix_is_computed_in_blocks(self, monkeypatch):
        monkeypatch.setattr(ease, "MOVIES_AT_ONCE", 4)
        x = rated_matrix(TrainingData(self.rows(), self.users, self.movies))
        x = x.toarray()[:, FIRST_INDEX:-1].astype(np.float64)
        inverse = np.linalg.inv(x.T @ x + 2 * np.eye(x.shape[1]))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        np.testing.assert_allclose(self.fit(self.rows(), 0).weights, weights, atol=1e-6)


def test_ease_is_the_closed_form():
    # Users 3 to 5 rated movies {3, 4}, {3}, {4, 6}; none rated movie 5.
    data = training_data([3, 3, 4, 5, 5], [4, 3, 3, 6, 4], 7, 8)
    model = Ease(data, EaseSettings(l2=1.0), 0)
    # X'X + I over movies 3, 4 and 6, its determinant 3 * (3 * 2 - 1) - 1 * 2 = 13, and its inverse by cofactors:
    np.testing.assert_array_equal(np.array([[3, 1, 0], [1, 3, 1], [0, 1, 2]]) @ [[5, -2, 1], [-2, 6, -3], [1, -3, 8]],
                                  13 * np.eye(3))  # fmt: skip
    weights = np.array([[0, 2 / 6, -1 / 8], [2 / 5, 0, 3 / 8], [-1 / 5, 3 / 6, 0]])
    np.testing.assert_allclose(model.weights, weights, rtol=1e-6)
    assert not model.weights.diagonal().any()
    expected = np.zeros((7, 8))
    expected[3:6, [3, 4, 6]] = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]]) @ weights
    np.testing.assert_allclose(all_scores(model, data), expected, rtol=1e-6, atol=1e-7)


def test_ease_refuses_a_catalogue_that_is_too_large(monkeypatch):
    monkeypatch.setattr(ease, "MOST_MOVIES", 2)
    with pytest.raises(UserError, match="EASE: 3 rated movies, at most 2") as error:
        Ease(training_data([3, 3, 4], [3, 4, 5], 5, 6), EaseSettings(), 0)
    assert "\n" not in str(error.value)
    Ease(training_data([3, 3, 4], [3, 5, 5], 5, 6), EaseSettings(), 0)
