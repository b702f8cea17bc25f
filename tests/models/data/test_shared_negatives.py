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


def shared(pairs: list[tuple[int, int]], movies: int, count: int, popularity: float = 0.0) -> SharedNegatives:
    user, movie = (np.array(column) for column in zip(*pairs))
    return SharedNegatives(NegativeSampler(user, movie, FIRST_INDEX, movies), count, CPU, popularity)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """How many movies there are, and pairs of users and movies of them, which may repeat."""
    movies = draw(st.integers(1, 12))
    pair = st.tuples(st.integers(FIRST_INDEX, 9), st.integers(FIRST_INDEX, FIRST_INDEX + movies - 1))
    return movies, draw(st.lists(pair, min_size=1, max_size=30))


@settings(max_examples=60, deadline=None)
@given(
    catalogue=catalogues(),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    popularity=st.sampled_from([0.0, 0.75, 2.0]),
)
def test_what_is_drawn_are_different_movies_of_the_catalogue_and_who_has_rated_them_is_known(
    catalogue, count, seed, popularity
):
    movies, pairs = catalogue
    users = torch.arange(FIRST_INDEX, 10)
    drawn = shared(pairs, movies, count, popularity).draw(users, generator(seed))
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


RATED = [(user, FIRST_INDEX + movie) for movie, users in enumerate((0, 3, 8, 15)) for user in range(2, 2 + users)]


def test_a_movie_s_share_grows_with_the_power_of_its_ratings():
    """With 0, 3, 8 and 15 ratings and the power of a half: shares of 1, 2, 3 and 4 tenths."""
    negatives, state = shared(RATED, 4, 1, popularity=0.5), generator(2)
    drawn = [int(negatives.draw(torch.tensor([FIRST_INDEX]), state).movie) - FIRST_INDEX for _ in range(4000)]
    assert chisquare(np.bincount(drawn, minlength=4), [400, 800, 1200, 1600]).pvalue > 1e-4
    chance = negatives.draw(torch.tensor([FIRST_INDEX]), state).log_chance[FIRST_INDEX:].exp()
    assert chance.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_chance_of_a_movie_is_that_of_so_many_draws():
    negatives = shared(RATED, 4, 2, popularity=0.5)
    chance = negatives.draw(torch.tensor([FIRST_INDEX]), generator()).log_chance[FIRST_INDEX:].exp()
    assert chance.tolist() == pytest.approx([1 - 0.9**2, 1 - 0.8**2, 1 - 0.7**2, 1 - 0.6**2])


@pytest.mark.parametrize(("count", "popularity"), [(3, 0.0), (4, 0.75), (9, 0.75)])
def test_movies_that_are_all_alike_or_all_drawn_have_no_chance_to_take_out(count, popularity):
    drawn = shared(RATED, 4, count, popularity).draw(torch.tensor([FIRST_INDEX]), generator())
    assert drawn.log_chance is None


@pytest.mark.parametrize("popularity", [0.0, 1.0])
@pytest.mark.parametrize("count", [3, 50])
def test_a_draw_depends_on_its_generator_alone(count, popularity):
    negatives, users = shared([(FIRST_INDEX, FIRST_INDEX)], 20, count, popularity), torch.tensor([FIRST_INDEX])
    first, again = (negatives.draw(users, generator(4)) for _ in range(2))
    assert torch.equal(first.movie, again.movie)
    assert torch.equal(first.fold, again.fold)
    assert not torch.equal(first.movie, negatives.draw(users, generator(5)).movie)
