"""An epoch: every row once, negatives that the user has not rated, and randomness from its seed and number alone."""

from collections import Counter
from dataclasses import fields
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from models.data.batches import LEAST_WEIGHT, Batch, Batches, Sampling, UnseenMovies, epoch_seed, recency_weights
from models.data.features import Features
from models.data.history import later_among
from models.data.interactions import Interactions
from models.data.load import load_features
from models.protocols.base import PROTOCOLS
from tests.names import DEFAULT_PROTOCOLS
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler

CPU = torch.device("cpu")


def batches_of(features: Features, rows: Interactions | None = None, **changes) -> Batches:
    """The batches of a protocol, as the training loop asks for them: not every protocol draws negatives."""
    arguments = {"batch_size": 100, "negatives": 4, "recency": 0.0, "seed": 3, **changes}
    if not PROTOCOLS[features.protocol].draws_negatives:
        arguments["negatives"] = 0
    return Batches(rows or features.interactions("train"), features.rated_movies, Sampling(**arguments), CPU)


def synthetic(protocol: str, rated: int) -> Features:
    """Features of which nothing but the protocol and the catalogue is there."""
    others = {column.name: None for column in fields(Features)}
    return Features(**{**others, "protocol": protocol, "folder": Path("nowhere"), "rated_movies": rated})


def synthetic_rows(pairs: list[tuple[int, int]], later: list[int] | None = None) -> Interactions:
    user, movie = (torch.tensor(column, dtype=torch.int32) for column in zip(*pairs))
    fold = (torch.arange(len(pairs)) % FOLDS).to(torch.int8)
    after = torch.tensor(later if later is not None else [0] * len(pairs), dtype=torch.int32)
    label, stars = torch.ones(len(pairs)), torch.full((len(pairs),), 4.0)
    return Interactions(user=user, movie=movie, label=label, fold=fold, later=after, not_before=after, stars=stars)


def positives_of(batch: Batch, negatives: int) -> slice:
    """A batch's rows of the split, which stand before their negatives."""
    return slice(0, len(batch) // (1 + negatives))


def column(epoch: list[Batch], name: str) -> torch.Tensor:
    return torch.cat([getattr(batch, name) for batch in epoch])


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for one, other in zip(first, second)
        for name in ("user", "movie", "fold", "label")
    )


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("draw_rows", [50, 1 << 20])
def test_every_row_comes_once_with_its_own_columns(prepared, monkeypatch, protocol, draw_rows):
    monkeypatch.setattr("models.data.batches.DRAW_ROWS", draw_rows)
    features = load_features(prepared, protocol)
    rows = features.interactions("train")
    weight = recency_weights(later_among(rows), 5)
    expected = Counter(zip(*(of.tolist() for of in (rows.user, rows.movie, rows.label, rows.fold, weight))))
    assert len(expected) == len(rows)
    batches = batches_of(features, recency=5.0)
    for number in (1, 2):
        found = Counter()
        for batch in batches.epoch(number):
            own = positives_of(batch, batches.negatives)
            columns = (batch.user, batch.movie, batch.label, batch.fold, batch.weight)
            found.update(zip(*(of[own].tolist() for of in columns)))
        assert found == expected


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_a_batch_is_what_the_model_and_the_loss_take(prepared, protocol):
    for recency in (0.0, 5.0):
        for batch in batches_of(load_features(prepared, protocol), recency=recency).epoch(1):
            assert batch.user.dtype == batch.movie.dtype == batch.fold.dtype == torch.int64
            assert batch.label.dtype == torch.float32
            sizes = {len(getattr(batch, name)) for name in ("user", "movie", "fold", "label")}
            assert sizes == {len(batch)}
            if recency:
                assert batch.weight.dtype == torch.float32
                assert batch.weight.shape == batch.label.shape
            else:
                assert batch.weight is None


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_rows_come_in_another_order_than_they_lie(prepared, protocol):
    features = load_features(prepared, protocol)
    batches = batches_of(features)
    users = torch.cat([batch.user[positives_of(batch, batches.negatives)] for batch in batches.epoch(1)])
    assert not torch.equal(users, features.interactions("train").user.long())
    first = next(iter(batches.epoch(1)))
    assert len(set(first.user.tolist())) > 5  # a batch is not a user after the other


def test_random_split_has_no_negatives_and_keeps_both_labels(prepared):
    features = load_features(prepared, "random-split")
    rows = features.interactions("train")
    batches = batches_of(features, negatives=4)
    assert batches.samples == len(rows)
    label = column(list(batches.epoch(1)), "label")
    assert label.sum() == rows.label.sum()
    assert 0 < label.mean() < 1


# -- negatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw_rows", [50, 1 << 20])
@pytest.mark.parametrize("negatives", [1, 5])
def test_a_positive_s_negatives_are_of_its_user_and_in_its_batch(prepared, monkeypatch, draw_rows, negatives):
    monkeypatch.setattr("models.data.batches.DRAW_ROWS", draw_rows)
    batches = batches_of(load_features(prepared, "leave-one-out"), negatives=negatives, recency=5.0)
    for batch in batches.epoch(1):
        own = positives_of(batch, negatives)
        assert (batch.label[own] == 1).all()
        assert (batch.label[own.stop :] == 0).all()
        asked = Counter(zip(batch.user[own].tolist(), batch.weight[own].tolist()))
        drawn = Counter(zip(batch.user[own.stop :].tolist(), batch.weight[own.stop :].tolist()))
        assert drawn == Counter({key: negatives * count for key, count in asked.items()})


def test_negatives_are_of_the_catalogue_and_never_rated_in_train(prepared):
    features = load_features(prepared, "leave-one-out")
    positives = features.interactions("train")
    rated = set(zip(positives.user.tolist(), positives.movie.tolist()))
    batches = batches_of(features, negatives=5)
    assert batches.samples == 6 * len(positives)
    negatives_too = set()
    for number in (1, 2, 3):
        epoch = list(batches.epoch(number))
        user, movie, label = (column(epoch, name) for name in ("user", "movie", "label"))
        assert len(user) == len(movie) == len(label) == 6 * len(positives)
        is_positive = label > 0
        assert int(is_positive.sum()) == len(positives)
        assert set(zip(user[is_positive].tolist(), movie[is_positive].tolist())) == rated
        negatives = set(zip(user[~is_positive].tolist(), movie[~is_positive].tolist()))
        assert not negatives & rated
        assert {movie for _, movie in negatives} <= set(features.catalogue.tolist())
        drawn = torch.bincount(user[~is_positive], minlength=features.users)
        assert torch.equal(drawn, 5 * torch.bincount(positives.user, minlength=features.users))
        negatives_too |= negatives
    # Movies that are held out are not rated in train: leaving them out would tell the model what is held out.
    held_out = set(zip(*(of.tolist() for of in features.seen("valid", "test"))))
    assert negatives_too & held_out


def test_the_fold_says_nothing_about_the_label(prepared):
    epoch = list(batches_of(load_features(prepared, "leave-one-out")).epoch(1))
    label, fold = column(epoch, "label"), column(epoch, "fold")
    assert set(fold.tolist()) == set(range(FOLDS))
    shares = torch.stack([torch.bincount(fold[label == value], minlength=FOLDS).double() for value in (0, 1)])
    shares /= shares.sum(dim=1, keepdim=True)
    assert (shares[0] - shares[1]).abs().max() < 0.05


@pytest.mark.parametrize("draw_rows", [3, 1 << 20])
def test_each_user_s_unseen_movies_are_drawn_equally_often(monkeypatch, draw_rows):
    """User 3 has rated the first two of seven movies, user 4 the last, user 6 all but two; user 5 nothing."""
    monkeypatch.setattr("models.data.batches.DRAW_ROWS", draw_rows)
    rated = {3: {3, 4}, 4: {9}, 6: {3, 5, 7, 8, 9}}
    rows = synthetic_rows([(user, movie) for user, movies in rated.items() for movie in sorted(movies)])
    batches = batches_of(synthetic("leave-one-out", 7), rows, batch_size=4, negatives=3, seed=1)
    counts, folds = Counter(), Counter()
    for batch in chain.from_iterable(batches.epoch(number) for number in range(1, 401)):
        negative = batch.label == 0
        counts.update(zip(batch.user[negative].tolist(), batch.movie[negative].tolist()))
        folds.update(batch.fold[negative].tolist())
    for user, movies in rated.items():
        found = {movie: count for (of, movie), count in counts.items() if of == user}
        assert set(found) == set(range(3, 10)) - movies
        assert sum(found.values()) == 400 * 3 * len(movies)
        assert chisquare(list(found.values())).pvalue > 0.001
    assert set(folds) == set(range(FOLDS))
    assert chisquare(list(folds.values())).pvalue > 0.001


def test_a_user_who_has_seen_everything_is_an_error():
    batches = batches_of(synthetic("leave-one-out", 3), synthetic_rows([(3, 3), (3, 4), (3, 5), (4, 3)]))
    with pytest.raises(ValueError, match="seen every movie"):
        list(batches.epoch(1))


@st.composite
def rated_sets(draw: st.DrawFn) -> tuple[int, dict[int, set[int]]]:
    """A catalogue's size, and for some users what they have rated of it: something, and not everything."""
    movies = draw(st.integers(2, 12))
    users = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True))
    some = st.sets(st.integers(FIRST_INDEX, FIRST_INDEX + movies - 1), min_size=1, max_size=movies - 1)
    return movies, {user: draw(some) for user in users}


@settings(deadline=None, max_examples=100)
@given(rated_sets(), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_unseen_movies_are_those_that_the_sampler_draws(case, seed, random):
    movies, rated = case
    pairs = [(user, movie) for user, of in rated.items() for movie in of]
    random.shuffle(pairs)
    sampler = NegativeSampler(*np.array(pairs).T, FIRST_INDEX, movies)
    asked = list(rated)
    random.shuffle(asked)
    count = 50 * movies  # of so many draws a movie is missing once in e^-50 times
    generator = torch.Generator().manual_seed(seed)
    found = UnseenMovies(sampler, CPU).draw(torch.tensor(asked), count, generator)
    assert found.shape == (len(asked), count)
    assert found.dtype == torch.int64
    theirs = sampler.draw(np.array(asked), count, np.random.default_rng(seed))
    for user, drawn, expected in zip(asked, found.tolist(), theirs.tolist()):
        unseen = set(range(FIRST_INDEX, FIRST_INDEX + movies)) - rated[user]
        assert set(drawn) == set(expected) == unseen


def test_the_same_user_many_times_gets_draws_of_its_own_each_time():
    sampler = NegativeSampler(np.array([3]), np.array([FIRST_INDEX]), FIRST_INDEX, 1000)
    drawn = UnseenMovies(sampler, CPU).draw(torch.full((40,), 3), 5, torch.Generator().manual_seed(0))
    assert len(set(drawn.reshape(-1).tolist())) > 150


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw_rows", "whole"), [(1, 20), (50, 20), (100, 20), (1 << 20, 20)], ids=["1", "50", "100", "at once"]
)
def test_batches_have_the_size_asked_for_but_for_the_last(prepared, monkeypatch, draw_rows, whole):
    monkeypatch.setattr("models.data.batches.DRAW_ROWS", draw_rows)
    batches = batches_of(load_features(prepared, "leave-one-out"), batch_size=104)
    sizes = [len(batch) for batch in batches.epoch(1)]
    assert set(sizes[:-1]) == {5 * whole}  # positives come with all of their negatives, so 100 of 104
    assert 0 < sizes[-1] <= 5 * whole
    assert sum(sizes) == batches.samples
    assert len(sizes) == -(-batches.samples // (5 * whole))


def test_batches_of_random_split_have_the_size_asked_for(prepared):
    features = load_features(prepared, "random-split")
    batches = batches_of(features, batch_size=104)
    sizes = [len(batch) for batch in batches.epoch(1)]
    assert set(sizes[:-1]) == {104}
    assert sum(sizes) == batches.samples == len(features.interactions("train"))


def test_a_batch_has_a_positive_even_where_its_negatives_alone_are_too_many():
    batches = batches_of(synthetic("leave-one-out", 9), synthetic_rows([(3, 3), (3, 4), (4, 5)]), batch_size=2)
    assert [len(batch) for batch in batches.epoch(1)] == [5, 5, 5]


def test_a_batch_larger_than_the_epoch_is_the_epoch(prepared):
    for protocol in DEFAULT_PROTOCOLS:
        batches = batches_of(load_features(prepared, protocol), batch_size=10**7)
        assert [len(batch) for batch in batches.epoch(1)] == [batches.samples]


# -- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("draw_rows", [50, 1 << 20])
def test_an_epoch_depends_on_the_seed_and_its_number_alone(prepared, monkeypatch, protocol, draw_rows):
    monkeypatch.setattr("models.data.batches.DRAW_ROWS", draw_rows)
    features = load_features(prepared, protocol)
    first = batches_of(features)
    epochs = {number: list(first.epoch(number)) for number in (1, 2, 3)}
    torch.rand(7)  # nothing of torch's own state comes in
    assert equal(epochs[3], list(batches_of(features).epoch(3)))
    assert equal(epochs[1], list(first.epoch(1)))
    assert not equal(epochs[3], list(batches_of(features, seed=4).epoch(3)))


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_an_epoch_leaves_torch_s_own_state_alone(prepared, protocol):
    before = torch.random.get_rng_state()
    list(batches_of(load_features(prepared, protocol)).epoch(1))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_each_epoch_has_a_new_order(prepared, protocol):
    batches = batches_of(load_features(prepared, protocol))
    first, second = (list(batches.epoch(number)) for number in (1, 2))
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
    assert (column(first, "user") != column(second, "user")).float().mean() > 0.8


def test_each_epoch_draws_new_negatives(prepared):
    features = load_features(prepared, "leave-one-out")
    batches = batches_of(features, negatives=1)
    drawn = []
    for number in (1, 2):
        of_positive = {}
        for batch in batches.epoch(number):
            own = positives_of(batch, 1)
            positives = zip(batch.user[own].tolist(), batch.movie[own].tolist())
            of_positive.update(zip(positives, batch.movie[own.stop :].tolist()))
        drawn.append(of_positive)
    first, second = drawn
    assert first.keys() == second.keys()
    assert np.mean([first[key] != second[key] for key in first]) > 0.9


def test_seeds_of_epochs_do_not_repeat():
    seeds = {epoch_seed(seed, number) for seed in range(50) for number in range(50)}
    assert len(seeds) > 2495  # of 2^32: chance alone repeats one in 1,400 times
    assert epoch_seed(42, 7) == epoch_seed(42, 7)
    assert epoch_seed(7, 42) != epoch_seed(42, 7)


# -- recency -----------------------------------------------------------------------------------------------------------


def test_recency_halves_the_weight_down_to_a_floor():
    weight = recency_weights(torch.tensor([0, 4, 8, 10**6], dtype=torch.int32), 4)
    assert weight.dtype == torch.float32
    assert float(weight.mean()) == pytest.approx(1)
    share = (weight / weight[0]).tolist()
    rest = 1 - LEAST_WEIGHT
    assert share == pytest.approx([1, LEAST_WEIGHT + rest / 2, LEAST_WEIGHT + rest / 4, LEAST_WEIGHT])


def test_a_negative_weighs_as_its_positive():
    rows = synthetic_rows([(3, 3), (4, 4), (4, 5), (5, 6), (5, 7), (5, 8)], later=[0, 1, 0, 2, 1, 0])
    batches = batches_of(synthetic("leave-one-out", 9), rows, recency=3.0, batch_size=10)
    expected = dict(zip(range(3, 9), recency_weights(rows.later, 3.0).tolist()))
    assert len(set(expected.values())) == 3
    for batch in batches.epoch(1):
        positives = int(batch.label.sum())
        weights = [expected[movie] for movie in batch.movie[:positives].tolist()]
        assert batch.weight[:positives].tolist() == weights
        assert batch.weight[positives:].tolist() == [weight for weight in weights for _ in range(batches.negatives)]


def test_recency_draws_a_row_as_often_as_it_would_weigh():
    ratings = [(3, 3 + movie) for movie in range(6)]
    rows = synthetic_rows(ratings, later=[5, 4, 3, 2, 1, 0])
    batches = batches_of(synthetic("leave-one-out", 9), rows, recency=2.0, recency_draws=True, negatives=0)
    weight = recency_weights(rows.later, 2.0)
    chance = (weight / weight.max()).tolist()
    epochs = 3000
    drawn = Counter()
    for number in range(epochs):
        for batch in batches.epoch(number):
            assert batch.weight is None
            drawn.update(batch.movie.tolist())
    assert drawn[8] == epochs  # the latest is certain
    for place in range(5):
        assert binomtest(drawn[3 + place], epochs, chance[place]).pvalue > 1e-4
    assert batches.samples == round(sum(chance))
    assert batches.samples_at_most == 6


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), recency=st.floats(0.1, 100), seed=st.integers(0, 2**31))
def test_an_epoch_of_drawn_rows_is_never_empty_and_brings_their_own_negatives(count, recency, seed):
    rows = synthetic_rows([(3, 3 + place % 6) for place in range(count)])
    batches = batches_of(synthetic("leave-one-out", 9), rows, recency=recency, recency_draws=True, seed=seed)
    first, again = (list(batches.epoch(1)) for _ in range(2))
    assert sum(len(batch) for batch in first) > 0
    assert all(len(batch) == 5 * int(batch.label.sum()) for batch in first)
    assert equal(first, again)


def test_without_recency_nothing_is_drawn():
    rows = synthetic_rows([(3, 3 + place) for place in range(6)], later=[5, 4, 3, 2, 1, 0])
    batches = batches_of(synthetic("leave-one-out", 9), rows, recency_draws=True, negatives=0)
    assert sorted(movie for batch in batches.epoch(1) for movie in batch.movie.tolist()) == [3, 4, 5, 6, 7, 8]
    assert batches.samples == batches.samples_at_most == 6
