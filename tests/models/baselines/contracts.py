"""What holds for every baseline, and for two kinds of them, beyond what holds for every scorer."""

import warnings
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from models.baselines.base import BASELINES, Baseline, PairScorer, TrainingData
from models.data.interactions import Interactions
from tests.contracts.scorers import SEED, ScorerContract, every_pair, interactions
from workflows.features.vocabulary import FIRST_INDEX


def training_data(
    user: list[int] | np.ndarray, movie: list[int] | np.ndarray, users: int, movies: int, label: Any = None
) -> TrainingData:
    """Ratings of these indices, with labels (or stars) of 1 where they are not given."""
    return TrainingData(interactions(np.asarray(user), np.asarray(movie), label), users, movies)


def star_table(stars: list[list[float]] | np.ndarray) -> TrainingData:
    """A row for a user, a column for a movie, 0 for no rating; the last user and the last movie have none."""
    matrix = np.array(stars)
    user, movie = np.nonzero(matrix)
    users, movies = (size + FIRST_INDEX + 1 for size in matrix.shape)
    return training_data(user + FIRST_INDEX, movie + FIRST_INDEX, users, movies, matrix[user, movie])


def all_scores(scorer: PairScorer, data: TrainingData) -> np.ndarray:
    """float32 [users, movies]"""
    return scorer(*every_pair(data.users, data.movies)).reshape(data.users, data.movies)


class BaselineContract(ScorerContract):
    """Override `key`, and what else differs. Scores of a baseline are the same in any batch, bit for bit.

    Attributes:
        key: of the registry, "task/name".
        settings: what the baseline is fitted with; None for the defaults.
        blocks: constants that say how much is computed at once: module and name.
    """

    key: str
    settings: Any = None
    blocks: tuple[tuple[ModuleType, str], ...] = ()

    @property
    def baseline(self) -> Baseline:
        return BASELINES[self.key]

    @property
    def task(self) -> str:
        return self.key.split("/")[0]

    @property
    def uses_chance(self) -> bool:
        return self.baseline.uses_chance

    def fit(self, rows: Interactions, seed: int) -> PairScorer:
        return self.fit_to(TrainingData(rows, self.users, self.movies), seed)

    def fit_to(self, data: TrainingData, seed: int = SEED) -> PairScorer:
        return self.baseline.fit(data, self.baseline.settings() if self.settings is None else self.settings, seed)

    def test_users_without_training_ratings_are_all_alike_and_so_are_movies(self):
        scores = self.every_score(self.scorer())
        nothing = [*range(FIRST_INDEX), -1]
        assert (scores[nothing] == scores[-1]).all()
        assert (scores[:, nothing] == scores[:, -1:]).all()

    def test_fitting_is_quiet(self, capfd):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.fit(self.rows(), SEED)
        assert capfd.readouterr() == ("", "")

    def test_blocks_do_not_change_scores(self, monkeypatch):
        expected = self.every_score(self.scorer())
        for module, name in self.blocks:
            with monkeypatch.context() as patched:
                patched.setattr(module, name, 7)
                np.testing.assert_array_equal(self.every_score(self.scorer()), expected)


class ImplicitContract(BaselineContract):
    """Of a baseline that knows only who rated what."""

    def test_users_and_movies_without_ratings_score_nothing(self):
        scorer = self.scorer()
        scores = self.every_score(scorer)
        assert scores[FIRST_INDEX:-1, FIRST_INDEX:-1].any(axis=1).all()
        for nothing in (scores[:FIRST_INDEX], scores[-1], scores[:, :FIRST_INDEX], scores[:, -1]):
            assert not nothing.any()
        assert not scorer.is_probability

    def test_a_checkerboard(self):
        """Even users have rated the even movies but their own one, odd users the odd ones."""
        size = 12
        user, movie = (index.reshape(size, size) for index in every_pair(size, size))
        same, own = user % 2 == movie % 2, user == movie
        rated = same & ~own
        data = training_data(
            user[rated] + FIRST_INDEX, movie[rated] + FIRST_INDEX, size + FIRST_INDEX, size + FIRST_INDEX
        )
        scores = self.fit_to(data)(user.ravel() + FIRST_INDEX, movie.ravel() + FIRST_INDEX).reshape(size, size)
        unseen = np.where(rated, -np.inf, scores)
        assert unseen.argmax(axis=1).tolist() == list(range(size))
        assert (scores[own] > scores[~same].max() + 0.1).all()

    def test_the_order_of_the_ratings_and_one_that_comes_twice_do_not_matter(self):
        rows = self.rows()
        order = np.random.default_rng(1).permutation(len(rows))
        order = np.append(order, order[:5])
        shuffled = interactions(rows.user.numpy()[order], rows.movie.numpy()[order])
        np.testing.assert_array_equal(self.every_score(self.fit(shuffled, SEED)), self.every_score(self.scorer()))

    def test_labels_and_stars_do_not_matter(self):
        rows = self.rows()
        other = replace(rows, label=rows.label * 0, stars=rows.stars * 3)
        np.testing.assert_array_equal(self.every_score(self.fit(other, SEED)), self.every_score(self.scorer()))


class StarContract(BaselineContract):
    """Of a baseline that predicts stars.

    Attributes:
        learns_tastes: whether it predicts more than how good a movie and how generous a user is.
    """

    learns_tastes = True

    def test_predictions_are_clipped_to_the_stars_of_training(self):
        data = star_table([[5, 5, 5, 2], [5, 5, 5, 2], [2, 2, 2, 2], [5, 5, 0, 0]])
        scorer = self.fit_to(data)
        scores = all_scores(scorer, data)
        assert scores.min() >= 2
        assert scores.max() <= 5
        assert (scorer.low, scorer.high) == (2, 5)
        constant = star_table([[4, 4], [4, 0]])
        np.testing.assert_array_equal(all_scores(self.fit_to(constant), constant), 4)

    def test_an_unseen_user_with_an_unseen_movie_gets_the_mean(self):
        scorer, mean = self.scorer(), self.rows().label.double().mean().item()
        found = scorer(np.array([self.users - 1, 0]), np.array([self.movies - 1, 2]))
        np.testing.assert_allclose(found, mean, rtol=1e-6)
        assert not scorer.is_probability

    def test_it_beats_biases_only_if_it_learns_tastes(self):
        rng = np.random.default_rng(5)
        opposite = 3 + rng.choice([-1, 1], (80, 1)) * rng.choice([-1, 1], 60)
        stars = np.clip(opposite + rng.normal(0, 0.3, (80, 60)), 0.5, 5)
        held_out = rng.random(stars.shape) < 0.3
        scorer = self.fit_to(star_table(np.where(held_out, 0, stars)))
        user, movie = np.nonzero(held_out)
        error = scorer(user + FIRST_INDEX, movie + FIRST_INDEX) - stars[user, movie]
        rmse = float(np.sqrt(np.mean(error**2)))
        assert rmse < 0.6 if self.learns_tastes else rmse > 0.9
