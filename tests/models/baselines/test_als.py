"""ALS: that its factors restore the ratings, and the contract."""

import numpy as np

from models.baselines import matrix
from models.baselines.als import Als, AlsSettings
from tests.models.baselines.contracts import ImplicitContract, TrainingData


class TestAls(ImplicitContract):
    key = "ranking/als"
    settings = AlsSettings(factors=2, regularization=0.05, alpha=5.0, iterations=10)
    permutation_tolerance = None  # two factors end in one of several minima
    blocks = ((matrix, "PAIRS_AT_ONCE"),)

    def test_it_restores_what_its_factors_can(self):
        rows = self.rows()
        settings = AlsSettings(factors=self.movies, regularization=1e-3, alpha=50.0, iterations=30)
        als = Als(TrainingData(rows, self.users, self.movies), settings, 42)
        np.testing.assert_allclose(als(rows.user.long().numpy(), rows.movie.long().numpy()), 1, atol=0.05)
