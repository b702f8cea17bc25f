"""The Bayesian FM: what its draws mean, what it may know, and that it finds the truth better than biases do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from models.baselines import matrix
from models.baselines.bayesian_fm import BayesianLiking, BayesianSettings, BayesianStars, Block
from models.baselines.biases import Biases, BiasSettings, StarBiases
from tests.models.baselines.contracts import BaselineContract, StarContract, star_table, training_data
from workflows.features.vocabulary import FIRST_INDEX

ROOT = Path(__file__).resolve().parents[3]
SETS = ("none", "user", "both")


class TestBayesianStars(StarContract):
    key = "rating/bayesian-fm"
    settings = BayesianSettings(rank=3, iterations=60)
    permutation_tolerance = None
    blocks = ((matrix, "PAIRS_AT_ONCE"),)

    def test_an_unseen_user_with_an_unseen_movie_gets_the_mean(self):
        """The mean of users and movies, not of ratings: nearly the same where all have as many."""
        scorer, mean = self.scorer(), self.rows().label.double().mean().item()
        found = scorer(np.array([self.users - 1, 0]), np.array([self.movies - 1, 2]))
        np.testing.assert_allclose(found, mean, atol=0.1)
        assert found[0] == found[1]


class TestBayesianLiking(BaselineContract):
    key = "classification/bayesian-fm"
    settings = BayesianSettings(rank=3, iterations=60)
    permutation_tolerance = None
    blocks = ((matrix, "PAIRS_AT_ONCE"),)


def drawn(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected stars of every pair, float64 [120, 80], the noisy ratings, and which of them are known."""
    rng = np.random.default_rng(seed)
    truth = 3.4 + rng.normal(0, 0.4, (120, 1)) + rng.normal(0, 0.4, 80)
    truth = truth + rng.normal(0, 0.7, (120, 3)) @ rng.normal(0, 0.7, (3, 80))
    return truth, truth + rng.normal(0, 0.5, truth.shape), rng.random(truth.shape) < 0.25


@pytest.mark.parametrize("sets", SETS)
def test_the_expected_stars_are_found_better_than_by_biases(sets):
    truth, stars, known = drawn()
    user, movie = np.nonzero(~known)
    data = star_table(np.where(known, stars, 0))

    def error(scorer) -> float:
        clipped = np.clip(truth[user, movie], scorer.low, scorer.high)
        return float(np.sqrt(np.mean((scorer(user + FIRST_INDEX, movie + FIRST_INDEX) - clipped) ** 2)))

    bayesian = BayesianStars(data, BayesianSettings(rank=3, iterations=100, sets=sets), 1)
    assert error(bayesian) < 0.75 * error(StarBiases(data, BiasSettings(), 1))


@pytest.mark.parametrize("sets", SETS)
def test_who_likes_what_is_found_better_than_by_biases_and_as_likely_as_it_says(sets):
    truth, stars, known = drawn()
    user, movie = np.nonzero(known)
    users, movies = (size + FIRST_INDEX for size in truth.shape)
    likes = (stars > 3.5).astype(np.float32)
    data = training_data(user + FIRST_INDEX, movie + FIRST_INDEX, users, movies, likes[user, movie])
    user, movie = np.nonzero(~known)
    ask = user + FIRST_INDEX, movie + FIRST_INDEX
    found = BayesianLiking(data, BayesianSettings(rank=3, iterations=100, sets=sets), 1)(*ask)
    label = likes[user, movie]
    biases = Biases(data, BiasSettings(), 1)(*ask)
    assert roc_auc_score(label, found) > roc_auc_score(label, biases) + 0.02
    assert abs(found.mean() - label.mean()) < 0.03
    for low in (0.1, 0.3, 0.5, 0.7):
        there = (found >= low) & (found < low + 0.2)
        assert abs(found[there].mean() - label[there].mean()) < 0.08


def test_the_sets_say_who_a_user_with_few_ratings_is():
    """Users rate movies of one of two kinds, which they like, and few of the other: the set says which kind it is."""
    rng = np.random.default_rng(0)
    same = rng.integers(2, size=(600, 1)) == rng.integers(2, size=40)
    rated = rng.random(same.shape) < np.where(same, 0.15, 0.02)
    truth = 3 + np.where(same, 1.0, -1.0)
    data = star_table(np.where(rated, truth + rng.normal(0, 0.8, same.shape), 0))
    user, movie = np.nonzero(~rated)
    errors = {}
    for sets in SETS:
        scorer = BayesianStars(data, BayesianSettings(rank=2, iterations=100, sets=sets), 1)
        found = scorer(user + FIRST_INDEX, movie + FIRST_INDEX)
        errors[sets] = np.sqrt(np.mean((found - truth[user, movie]) ** 2))
    assert errors["user"] < 0.7 * errors["none"]
    assert errors["both"] < 0.8 * errors["none"]


def test_a_block_is_the_id_and_the_rated_set_over_the_root_of_its_size():
    rated = csr_matrix(np.array([[0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]], np.float64))
    block = Block.of(rated, with_set=True)
    assert block.row.tolist() == [-1, 0, -1, 1]
    assert block.widths == (2, 2)
    half = 0.5**0.5
    np.testing.assert_allclose(block.features.toarray(), [[1, 0, half, half], [0, 1, 0, 1]])
    assert Block.of(rated, with_set=False).features.toarray().tolist() == [[1, 0], [0, 1]]


def test_the_terms_of_a_block_are_those_of_a_factorisation_machine():
    """w.x and the sum over pairs of columns of <v_i, v_j> x_i x_j, as the definition has it."""
    rng = np.random.default_rng(1)
    rated = rng.random((6, 5)) < 0.5
    rated[2] = False
    block = Block.of(csr_matrix(rated.astype(np.float64)), with_set=True)
    columns = sum(block.widths)
    weights, factors = rng.normal(size=columns), rng.normal(size=(columns, 3))
    terms = block.terms(weights, factors)
    assert sorted(block.row) == [-1, 0, 1, 2, 3, 4]
    unseen, others = block.row < 0, block.row >= 0
    np.testing.assert_allclose(terms.bias[unseen][0], terms.bias[others].mean(), rtol=1e-5)
    np.testing.assert_allclose(terms.factors[unseen][0], terms.factors[others].mean(axis=0), rtol=1e-5, atol=1e-6)
    for index in np.flatnonzero(others):
        x = block.features.toarray()[block.row[index]]
        pairs = sum(factors[i] @ factors[j] * x[i] * x[j] for i in range(columns) for j in range(i))
        np.testing.assert_allclose(terms.bias[index], weights @ x + pairs, rtol=1e-5)
        np.testing.assert_allclose(terms.factors[index], x @ factors, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_no_warning_of_the_library_is_displayed():
    code = """
import numpy as np
from models.baselines.bayesian_fm import BayesianSettings, BayesianStars
from tests.models.baselines.contracts import star_table
BayesianStars(star_table([[5, 4], [4, 1]]), BayesianSettings(iterations=2), 1)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pkg_resources" not in ran.stderr
    assert "it/s" not in ran.stderr
