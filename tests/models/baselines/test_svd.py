"""The SVD: a table whose rank is its factors, and the contract."""

import numpy as np

from models.baselines import matrix
from models.baselines.biases import BiasSettings, StarBiases
from models.baselines.svd import Svd, SvdSettings
from tests.models.baselines.contracts import StarContract, all_scores, star_table


class TestSvd(StarContract):
    key = "rating/svd"
    settings = SvdSettings(factors=3)
    permutation_tolerance = 1e-3
    blocks = ((matrix, "PAIRS_AT_ONCE"),)


def test_svd_restores_a_table_whose_rank_is_its_factors():
    stars = 3 + np.outer([1, -1, 1, -1, 0.5], [1.5, -1.5, 1, -1])
    data = star_table(stars)
    svd = Svd(data, SvdSettings(factors=2, shrinkage=1.0, scale=1.0), 42)
    found = svd(data.rows.user.long().numpy(), data.rows.movie.long().numpy())
    np.testing.assert_allclose(found, stars.ravel(), atol=1e-5)
    half = Svd(data, SvdSettings(factors=2, shrinkage=1.0, scale=0.5), 42)
    biases = StarBiases(data, BiasSettings(1.0), 42)
    user, movie = np.array([3]), np.array([3])
    np.testing.assert_allclose(half(user, movie), (svd(user, movie) + biases(user, movie)) / 2, rtol=1e-6)


def test_svd_of_a_table_with_fewer_rows_than_factors():
    data = star_table([[5, 4], [4, 1]])
    assert np.isfinite(all_scores(Svd(data, SvdSettings(factors=100), 42), data)).all()
