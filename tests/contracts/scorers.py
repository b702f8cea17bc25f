"""What holds for every scorer of pairs of a user and a movie: a class whose tests a concrete class inherits.

class TestPopularity(ScorerContract):
    def fit(self, rows, seed):
        return Popularity(TrainingData(rows, self.users, self.movies), NoSettings(), seed)
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.baselines.base import PairScorer
from models.data.interactions import Interactions, joined
from workflows.features.vocabulary import FIRST_INDEX

SEED = 42
SHARED_BY_CLASSES = [HealthCheck.differing_executors]  # an inherited test runs with many classes


def interactions(user: np.ndarray, movie: np.ndarray, label: np.ndarray | None = None) -> Interactions:
    """Ratings, each user's in the order of time; labels (or stars) are 1 where they are not given."""
    label = np.ones(len(user)) if label is None else np.asarray(label)
    values = torch.tensor(label, dtype=torch.float32)
    nothing = torch.zeros(len(user), dtype=torch.int32)
    owner = np.asarray(user)
    later = torch.tensor([int((owner[place + 1 :] == one).sum()) for place, one in enumerate(owner)], dtype=torch.int32)
    return Interactions(
        user=torch.tensor(user, dtype=torch.int32),
        movie=torch.tensor(movie, dtype=torch.int32),
        label=values,
        fold=nothing.to(torch.int8),
        later=later,
        not_before=later,
        stars=values,
    )


def every_pair(users: int, movies: int) -> tuple[np.ndarray, np.ndarray]:
    """Every user with every movie, int64 [users * movies] each."""
    return np.repeat(np.arange(users), movies), np.tile(np.arange(movies), users)


def synthetic_stars(users: int, movies: int, seed: int = 0) -> np.ndarray:
    """Half stars of two tastes, 0 where a rating is missing, which half of them are: float64 [users, movies]."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(users, 2)) @ rng.normal(size=(2, movies))
    stars = np.clip(np.round(2 * (3.2 + taste + rng.normal(scale=0.2, size=taste.shape))) / 2, 0.5, 5)
    return np.where(rng.random(stars.shape) < 0.5, stars, 0)


class ScorerContract:
    """Override `fit`, and what else differs.

    Attributes:
        users, movies: how many indices there are, the reserved ones included; the last of each has no rating.
        task: what the label of a rating is: 1 ("ranking"), 0 or 1 ("classification"), its stars ("rating").
        uses_chance: whether another seed gives another scorer.
        tolerance: how far the score of a pair may be off in another batch; 0 means the same bit for bit.
        permutation_tolerance: how far scores may be off after fitting to permuted indices; None where the result of
            training depends on the order of the indices, as it does from a random start.
        case: tells fitted scorers of one class apart, where the class is parametrised.
    """

    users, movies = FIRST_INDEX + 37, FIRST_INDEX + 27
    task = "ranking"
    uses_chance = False
    tolerance = 0.0
    permutation_tolerance: float | None = 1e-4
    case = ""
    _fitted: dict[tuple, PairScorer] = {}  # noqa: RUF012  one for all classes, by class, case and seed

    def fit(self, rows: Interactions, seed: int) -> PairScorer:
        """A scorer fitted to these rows."""
        raise NotImplementedError

    def rows(self, seed: int = 0) -> Interactions:
        """Training ratings; neither the reserved indices nor the last user and movie have any."""
        stars = synthetic_stars(self.users - FIRST_INDEX - 1, self.movies - FIRST_INDEX - 1, seed)
        user, movie = np.nonzero(stars)
        stars = stars[user, movie]
        labels = {"ranking": np.ones_like(stars), "classification": stars >= 4, "rating": stars}
        return interactions(user + FIRST_INDEX, movie + FIRST_INDEX, labels[self.task].astype(np.float32))

    def scorer(self, seed: int = SEED) -> PairScorer:
        """A scorer fitted to `rows`, once for each class, case and seed."""
        key = (type(self), self.case, seed)
        if key not in self._fitted:
            self._fitted[key] = self.fit(self.rows(), seed)
        return self._fitted[key]

    def every_score(self, scorer: PairScorer) -> np.ndarray:
        """float32 [users, movies]"""
        return scorer(*every_pair(self.users, self.movies)).reshape(self.users, self.movies)

    def assert_same(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Scores are the same but for what another batch may change."""
        np.testing.assert_allclose(found, expected, rtol=self.tolerance, atol=self.tolerance)

    # -- the form of scores --------------------------------------------------------------------------------------------

    def test_a_pair_has_one_finite_float32_score(self):
        """Every pair: reserved indices, and users and movies without training ratings, included."""
        user, movie = every_pair(self.users, self.movies)
        scores = self.scorer()(user, movie)
        assert isinstance(scores, np.ndarray)
        assert scores.shape == (self.users * self.movies,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_scores_are_probabilities_where_they_say_so(self):
        scorer = self.scorer()
        assert isinstance(scorer.is_probability, bool)
        if scorer.is_probability:
            scores = self.every_score(scorer)
            assert ((scores > 0) & (scores < 1)).all()

    def test_no_pairs_have_no_scores(self):
        nothing = np.empty(0, np.int64)
        scores = self.scorer()(nothing, nothing)
        assert scores.shape == (0,)
        assert scores.dtype == np.float32

    def test_the_arguments_are_left_as_they_are(self):
        user, movie = every_pair(self.users, self.movies)
        self.scorer()(user, movie)
        for now, before in zip((user, movie), every_pair(self.users, self.movies)):
            np.testing.assert_array_equal(now, before)

    @pytest.mark.parametrize("index", [*range(FIRST_INDEX), -1])
    def test_indices_without_training_ratings_have_scores(self, index):
        """The reserved indices, and the last user and movie, each asked alone and with everything."""
        scorer = self.scorer()
        user, movie = index % self.users, index % self.movies
        everything = self.every_score(scorer)
        of_user = scorer(np.full(self.movies, user), np.arange(self.movies))
        of_movie = scorer(np.arange(self.users), np.full(self.users, movie))
        assert np.isfinite(of_user).all()
        assert np.isfinite(of_movie).all()
        self.assert_same(of_user, everything[user])
        self.assert_same(of_movie, everything[:, movie])

    # -- batches -------------------------------------------------------------------------------------------------------

    @settings(max_examples=20, deadline=None, suppress_health_check=SHARED_BY_CLASSES)
    @given(data=st.data())
    def test_a_pair_scores_the_same_in_any_batch(self, data):
        """Repeated pairs in any order, and no pairs at all, included."""
        one_pair = st.tuples(st.integers(0, self.users - 1), st.integers(0, self.movies - 1))
        user, movie = np.array(data.draw(st.lists(one_pair, max_size=30)), np.int64).reshape(-1, 2).T
        scorer = self.scorer()
        expected = self.every_score(scorer)[user, movie]
        self.assert_same(scorer(user, movie), expected)
        one_by_one = [scorer(user[[i]], movie[[i]])[0] for i in range(len(user))]
        self.assert_same(np.array(one_by_one, np.float32), expected)

    def test_repeated_pairs_have_the_same_score(self):
        user, movie = every_pair(self.users, self.movies)
        scores = self.scorer()(np.tile(user, 2), np.tile(movie, 2))
        self.assert_same(scores[: len(user)], scores[len(user) :])

    # -- fitting -------------------------------------------------------------------------------------------------------

    def test_fitting_again_to_the_same_rows_gives_the_same_scores(self):
        again = self.fit(self.rows(), SEED)
        np.testing.assert_array_equal(self.every_score(again), self.every_score(self.scorer()))

    def test_another_seed_gives_other_scores_only_where_chance_is_used(self):
        one, other = (self.every_score(self.scorer(seed)) for seed in (SEED, SEED + 1))
        assert np.array_equal(one, other) == (not self.uses_chance)

    def test_fitting_to_more_rows_leaves_the_first_scorer_as_it_was(self):
        scorer, rows, more = self.scorer(), self.rows(), self.rows(seed=1)
        before = self.every_score(scorer)
        there = set(zip(rows.user.tolist(), rows.movie.tolist()))
        new = [i for i, pair in enumerate(zip(more.user.tolist(), more.movie.tolist())) if pair not in there]
        added = Interactions(**{name: column[new] for name, column in vars(more).items()})
        after = self.every_score(self.fit(joined([rows, added]), SEED))
        assert np.isfinite(after).all()
        assert not np.array_equal(after, before)
        np.testing.assert_array_equal(self.every_score(scorer), before)

    def test_fitting_leaves_the_rows_as_they_were(self):
        rows = self.rows()
        self.fit(rows, SEED)
        for now, before in zip(vars(rows).values(), vars(self.rows()).values()):
            assert torch.equal(now, before)

    @settings(max_examples=10, deadline=None, suppress_health_check=SHARED_BY_CLASSES)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_a_permutation_of_indices_and_rows_permutes_scores_and_nothing_else(self, seed):
        if self.permutation_tolerance is None:
            pytest.skip("training starts from random values, which belong to indices")
        rng, rows = np.random.default_rng(seed), self.rows()
        new_user, new_movie = (
            np.append(np.arange(FIRST_INDEX), FIRST_INDEX + rng.permutation(n - FIRST_INDEX))
            for n in (self.users, self.movies)
        )
        order = rng.permutation(len(rows))
        user, movie, label = (column.numpy()[order] for column in (rows.user, rows.movie, rows.label))
        permuted = self.fit(interactions(new_user[user], new_movie[movie], label), SEED)
        user, movie = every_pair(self.users, self.movies)
        np.testing.assert_allclose(
            permuted(new_user[user], new_movie[movie]),
            self.scorer()(user, movie),
            rtol=self.permutation_tolerance,
            atol=self.permutation_tolerance,
        )
