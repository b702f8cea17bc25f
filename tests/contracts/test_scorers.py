"""The contract of scorers refuses what breaks it, and accepts a scorer that keeps it."""

import numpy as np
import pytest

from tests.contracts.scorers import ScorerContract


class Counts:
    """Scores a movie by its number of ratings, with one part of the contract broken."""

    is_probability = False

    def __init__(self, rows, movies, seed):
        self.seed = seed
        self.counts = np.bincount(rows.movie.numpy(), minlength=movies).astype(np.float32)

    def __call__(self, user, movie):
        return self.counts[movie]


class Double(Counts):
    def __call__(self, user, movie):
        return self.counts[movie].astype(np.float64)


class Column(Counts):
    def __call__(self, user, movie):
        return self.counts[movie][:, None]


class NotFinite(Counts):
    def __call__(self, user, movie):
        with np.errstate(divide="ignore"):
            return np.log(self.counts[movie])


class NotProbable(Counts):
    is_probability = True


class Centred(Counts):
    """Its scores depend on what else is in the batch."""

    def __call__(self, user, movie):
        scores = self.counts[movie]
        return scores - scores.mean() if len(scores) else scores


class Ranks(Counts):
    """Ties go by the place in the batch."""

    def __call__(self, user, movie):
        return self.counts[movie] + np.arange(len(movie), dtype=np.float32) / 100


class Sorting(Counts):
    def __call__(self, user, movie):
        movie.sort()
        return self.counts[movie]


class ByIndex(Counts):
    def __call__(self, user, movie):
        return self.counts[movie] + movie.astype(np.float32)


class Unseeded(Counts):
    def __init__(self, rows, movies, seed):
        super().__init__(rows, movies, seed)
        self.counts += np.random.default_rng().random(movies, np.float32)


class Seeded(Counts):
    def __init__(self, rows, movies, seed):
        super().__init__(rows, movies, seed)
        self.counts += np.random.default_rng(seed).random(movies, np.float32)


class Adding(Counts):
    """All of them share what they have counted."""

    total = 0

    def __init__(self, rows, movies, seed):
        super().__init__(rows, movies, seed)
        Adding.total = Adding.total + self.counts

    def __call__(self, user, movie):
        return Adding.total[movie]


class Untrained(Counts):
    def __init__(self, rows, movies, seed):
        self.counts = np.ones(movies, np.float32)


class Changing(Counts):
    def __init__(self, rows, movies, seed):
        super().__init__(rows, movies, seed)
        rows.label.zero_()


class Known(Counts):
    """Refuses the reserved indices."""

    def __call__(self, user, movie):
        assert (user > 2).all()
        return self.counts[movie]


def contract_of(scorer: type[Counts]) -> ScorerContract:
    class Contract(ScorerContract):
        def fit(self, rows, seed):
            return scorer(rows, self.movies, seed)

    return Contract()


BROKEN = [
    (Double, "a_pair_has_one_finite_float32_score"),
    (Double, "no_pairs_have_no_scores"),
    (Column, "a_pair_has_one_finite_float32_score"),
    (Column, "no_pairs_have_no_scores"),
    (NotFinite, "a_pair_has_one_finite_float32_score"),
    (NotProbable, "scores_are_probabilities_where_they_say_so"),
    (Centred, "a_pair_scores_the_same_in_any_batch"),
    (Ranks, "a_pair_scores_the_same_in_any_batch"),
    (Ranks, "repeated_pairs_have_the_same_score"),
    (Sorting, "the_arguments_are_left_as_they_are"),
    (ByIndex, "a_permutation_of_indices_and_rows_permutes_scores_and_nothing_else"),
    (Unseeded, "fitting_again_to_the_same_rows_gives_the_same_scores"),
    (Seeded, "another_seed_gives_other_scores_only_where_chance_is_used"),
    (Adding, "fitting_to_more_rows_leaves_the_first_scorer_as_it_was"),
    (Untrained, "fitting_to_more_rows_leaves_the_first_scorer_as_it_was"),
    (Changing, "fitting_leaves_the_rows_as_they_were"),
]


class TestCounts(ScorerContract):
    def fit(self, rows, seed):
        return Counts(rows, self.movies, seed)


class TestSeeded(ScorerContract):
    uses_chance = True
    permutation_tolerance = None

    def fit(self, rows, seed):
        return Seeded(rows, self.movies, seed)


@pytest.mark.parametrize(("scorer", "what"), BROKEN)
def test_a_scorer_that_breaks_the_contract_is_refused(scorer, what):
    with pytest.raises(AssertionError):
        getattr(contract_of(scorer), f"test_{what}")()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_scorer_that_refuses_reserved_indices_is_refused(index):
    with pytest.raises(AssertionError):
        contract_of(Known).test_indices_without_training_ratings_have_scores(index)


def test_a_scorer_without_chance_that_says_it_uses_chance_is_refused():
    contract = contract_of(Counts)
    contract.uses_chance = True
    with pytest.raises(AssertionError):
        contract.test_another_seed_gives_other_scores_only_where_chance_is_used()
