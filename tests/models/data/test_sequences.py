"""Sequences: each rating with something strictly before it in the window is learned once, from what came before."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from core.errors import UserError
from models.data.batches import Sampling, recency_weights
from models.data.history import NOTHING, Timeline, later_among
from models.data.sequences import SequenceBatch, SequenceBatches
from tests.models.synthetic import rows_at
from workflows.features.vocabulary import FIRST_INDEX

CPU = torch.device("cpu")
USERS, MOVIES = 9, 20


def batches_of(ratings: list[tuple[int, int, int]], length: int, **changes) -> SequenceBatches:
    rows = rows_at(ratings)
    past = Timeline.of([rows], USERS, FIRST_INDEX + MOVIES, length)
    sampling = Sampling(**{"batch_size": 8, "shared_negatives": 5, "seed": 3, **changes})
    return SequenceBatches(rows, MOVIES, sampling, CPU, past=past)


def learned(batch: SequenceBatch) -> list[tuple[int, tuple[int, ...]]]:
    """Each rating's movie and the movies of the state that it is learned from, the oldest first."""
    rows = zip(batch.movie.tolist(), batch.owner.tolist(), batch.state.tolist())
    return [(movie, tuple(batch.inputs[owner, : state + 1].tolist())) for movie, owner, state in rows]


def expected(ratings: list[tuple[int, int, int]], length: int) -> Counter:
    """By hand: for each user, the last ratings, as many as the window holds after the first, and what came before."""
    found: Counter = Counter()
    for user in {user for user, _, _ in ratings}:
        own = sorted((second, place, movie) for place, (who, movie, second) in enumerate(ratings) if who == user)
        inputs = own[:-1][-length:]
        for second, place, movie in own[-len(inputs) :] if inputs else []:
            before = tuple(one for earlier, _, one in inputs if earlier < second)
            if before:
                found[movie, before] += 1
            assert all((earlier, other) < (second, place) for earlier, other, one in inputs if one in before)
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Ratings of a few users, many of the same second, each movie at most once of a user, in any order of rows."""
    pairs = draw(
        st.lists(
            st.tuples(st.integers(FIRST_INDEX, USERS - 1), st.integers(FIRST_INDEX, FIRST_INDEX + MOVIES - 1)),
            min_size=1,
            max_size=40,
            unique=True,
        )
    )
    return [(user, movie, draw(st.integers(0, 6))) for user, movie in pairs]


@settings(max_examples=150, deadline=None)
@given(ratings=histories(), length=st.integers(1, 8), size=st.integers(1, 30))
def test_every_rating_with_something_before_it_is_learned_once_from_all_that_came_before(ratings, length, size):
    wanted = expected(ratings, length)
    if not wanted:
        return
    batches = batches_of(ratings, length, batch_size=size)
    for number in (1, 2):
        found = list(batches.epoch(number))
        assert Counter(chain.from_iterable(learned(batch) for batch in found)) == wanted
        assert sum(len(batch) for batch in found) == batches.samples == sum(wanted.values())


@settings(max_examples=60, deadline=None)
@given(ratings=histories(), length=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_what_is_shared_is_no_negative_of_who_has_rated_it(ratings, length, seed):
    if not expected(ratings, length):
        return
    rated = {(user, movie) for user, movie, _ in ratings}
    by_movies = {movies: user for user in range(USERS) for movies in [_of(ratings, user)] if movies}
    for batch in batches_of(ratings, length, seed=seed).epoch(1):
        shared = batch.shared.movie.tolist()
        assert len(shared) == len(set(shared)) == 5
        assert batch.movies().tolist() == batch.movie.tolist() + shared
        assert batch.shared.is_negative.shape == (len(batch), 5)
        for movie, owner, row in zip(batch.movie.tolist(), batch.owner.tolist(), batch.shared.is_negative.tolist()):
            inputs = [one for one in batch.inputs[owner].tolist() if one != NOTHING]
            assert batch.lengths[owner] == len(inputs)
            owners = [user for movies, user in by_movies.items() if {movie, *inputs} <= set(movies)]
            assert row in [[(user, one) not in rated for one in shared] for user in owners]


def _of(ratings: list[tuple[int, int, int]], user: int) -> tuple[int, ...]:
    return tuple(movie for who, movie, _ in ratings if who == user)


def many(users: int = 6, each: int = 12) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    people = range(FIRST_INDEX, FIRST_INDEX + users)
    return [
        (user, FIRST_INDEX + int(movie), second)
        for user in people
        for second, movie in enumerate(rng.choice(MOVIES, each, replace=False))
    ]


def same(one: list[SequenceBatch], other: list[SequenceBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name)) and torch.equal(a.shared.movie, b.shared.movie)
        for a, b in zip(one, other)
        for name in ("inputs", "movie", "owner", "state")
    )


def test_an_epoch_depends_on_the_seed_and_its_number_alone():
    first = batches_of(many(), 5)
    third = list(first.epoch(3))
    before = torch.random.get_rng_state()
    assert same(third, list(batches_of(many(), 5).epoch(3)))  # what a training that resumes sees
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not same(third, list(first.epoch(2)))
    assert not same(third, list(batches_of(many(), 5, seed=4).epoch(3)))


@pytest.mark.parametrize("size", [12, 24, 30])
def test_batches_have_about_the_size_asked_for(size):
    """No step has more inputs than the size and one more user's."""
    length = 6
    sizes = [int(batch.lengths.sum()) for batch in batches_of(many(), length, batch_size=size).epoch(1)]
    assert max(sizes) < size + length
    assert np.mean(sizes[:-1] or sizes) >= size / 2


def test_a_user_larger_than_a_batch_is_a_batch():
    assert [len(batch) for batch in batches_of(many(3), 11, batch_size=2).epoch(1)] == [11, 11, 11]


def test_recency_weighs_a_rating_by_how_many_came_after_it():
    ratings = many(2)
    rows = rows_at(ratings)
    weights = dict(zip(rows.movie.tolist()[:12], recency_weights(later_among(rows), 3.0).tolist()[:12]))
    found = {}
    for batch in batches_of(ratings, 20, recency=3.0).epoch(1):
        for movie, owner, weight in zip(batch.movie.tolist(), batch.owner.tolist(), batch.weight.tolist()):
            if batch.inputs[owner, 0] == ratings[0][1]:
                found[movie] = weight
    assert found == {movie: weights[movie] for _, movie, second in ratings[:12] if second}


def test_recency_draws_a_rating_as_often_as_it_would_weigh():
    ratings = many(1)
    rows = rows_at(ratings)
    weights = dict(zip(rows.movie.tolist(), recency_weights(later_among(rows), 3.0).tolist()))
    learned = [movie for _, movie, second in ratings if second]
    heaviest = max(weights[movie] for movie in learned)
    batches = batches_of(ratings, 20, recency=3.0, recency_draws=True)
    epochs = 2000
    drawn = Counter()
    for number in range(epochs):
        for batch in batches.epoch(number):
            assert batch.weight is None
            assert len(batch.owner) == len(batch.state) == len(batch.shared.is_negative) == len(batch)
            drawn.update(batch.movie.tolist())
    assert set(drawn) == set(learned)
    for movie in learned:
        assert binomtest(drawn[movie], epochs, min(1.0, weights[movie] / heaviest)).pvalue > 1e-4
    assert batches.samples == round(sum(weights[movie] / heaviest for movie in learned))
    assert batches.samples_at_most == len(learned)


def test_without_shared_negatives_the_whole_catalogue_is_shared():
    batch = next(iter(batches_of(many(), 5, shared_negatives=0).epoch(1)))
    assert sorted(batch.shared.movie.tolist()) == list(range(FIRST_INDEX, FIRST_INDEX + MOVIES))


def test_ratings_of_one_second_alone_say_nothing_of_what_comes_next():
    """Where every user rated all at once, or once: there is nothing to divide a loss by."""
    together = [(user, movie, 5) for user, movie, _ in many(users=5)]
    with pytest.raises(UserError, match="no rating of train has another one of its user before it") as refused:
        batches_of([*together, (USERS - 1, FIRST_INDEX, 9)], 5)
    assert "\n" not in str(refused.value)


def test_a_network_without_a_history_has_no_sequences():
    with pytest.raises(ValueError, match="needs a history"):
        SequenceBatches(rows_at(many()), MOVIES, Sampling(batch_size=8), CPU, past=None)
