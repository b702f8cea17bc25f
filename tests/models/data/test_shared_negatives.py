"""Movies that all positives of a step are told from: different ones of the catalogue, and who has rated them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.data.shared_negatives import SharedNegatives
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler

CPU = torch.device("cpu")


def shared(pairs: list[tuple[int, int]], movies: int, count: int) -> SharedNegatives:
    user, movie = (np.array(column) for column in zip(*pairs))
    return SharedNegatives(NegativeSampler(user, movie, FIRST_INDEX, movies), count, CPU)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """How many movies there are, and pairs of users and movies of them, which may repeat."""
    movies = draw(st.integers(1, 12))
    pair = st.tuples(st.integers(FIRST_INDEX, 9), st.integers(FIRST_INDEX, FIRST_INDEX + movies - 1))
    return movies, draw(st.lists(pair, min_size=1, max_size=30))


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues(), count=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_what_is_drawn_are_different_movies_of_the_catalogue_and_who_has_rated_them_is_known(catalogue, count, seed):
    movies, pairs = catalogue
    users = torch.arange(FIRST_INDEX, 10)
    drawn = shared(pairs, movies, count).draw(users, generator(seed))
    found = drawn.movie.tolist()
    assert len(found) == len(set(found)) == min(count, movies)  # all of them, where more are asked for
    assert set(found) <= set(range(FIRST_INDEX, FIRST_INDEX + movies))
    assert set(drawn.fold.tolist()) <= set(range(FOLDS))
    assert drawn.fold.shape == drawn.movie.shape
    expected = [[(user, movie) not in pairs for movie in found] for user in users.tolist()]
    assert drawn.is_negative.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues())
def test_has_rated_is_so_for_the_pairs_of_training_alone(catalogue):
    """Users without ratings, and the ends of the catalogue, among them."""
    movies, pairs = catalogue
    users, every = torch.arange(12), torch.arange(FIRST_INDEX, FIRST_INDEX + movies)
    found = shared(pairs, movies, 1).has_rated(users, every)
    assert found.tolist() == [[(user, movie) in pairs for movie in every.tolist()] for user in users.tolist()]


def test_every_movie_is_as_likely():
    negatives, state = shared([(FIRST_INDEX, FIRST_INDEX)], 20, 5), generator(1)
    counts = np.zeros(20)
    for _ in range(2000):
        counts[negatives.draw(torch.tensor([FIRST_INDEX]), state).movie.numpy() - FIRST_INDEX] += 1
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("count", [3, 50])
def test_a_draw_depends_on_its_generator_alone(count):
    negatives, users = shared([(FIRST_INDEX, FIRST_INDEX)], 20, count), torch.tensor([FIRST_INDEX])
    first, again = (negatives.draw(users, generator(4)) for _ in range(2))
    assert torch.equal(first.movie, again.movie)
    assert torch.equal(first.fold, again.fold)
    assert not torch.equal(first.movie, negatives.draw(users, generator(5)).movie)
