"""A softmax over shared negatives by hand, and the networks' fast scores for it against those pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.batches import Batch, Batches, Sampling
from models.data.features import Features
from models.data.history import NOTHING, timeline
from models.data.load import load_features
from models.data.sequences import SequenceBatches
from models.data.shared_negatives import Shared
from models.networks.base import NETWORKS, Recommender, build
from models.training.objective import SOFTMAX_OFFSET, SharedSoftmax, softmax_loss, without_chance
from tests.contracts.networks import with_wider_scores
from tests.models.sizes import small
from tests.models.synthetic import less_vocabulary, with_details
from workflows.features.vocabulary import FOLDS

CPU = torch.device("cpu")
LENGTH = 4
SIZES = {
    "dlrm with history": {"history": LENGTH, "user_statistics": False},
    "dlrm without history": {"history": 0, "user_statistics": False},
    "dlrm of one layer": {"history": LENGTH, "user_statistics": False, "bottom": (), "top": (5,)},
    "ncf": {"mlp_dim": 5},
    "ncf-history": {"mlp_dim": 5, "history": LENGTH},
    "mf": {},
    "svdpp": {"history": LENGTH},
    "fism": {"history": LENGTH, "alpha": 0.3},
}


def test_the_loss_is_minus_the_logarithm_of_the_positive_s_share():
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [2.0, 9.0, 9.0]])
    is_negative = torch.tensor([[True, True], [True, False], [False, False]])
    shares = [
        np.exp(1) / (np.exp(1) + np.exp(2) + np.exp(0.5)),
        1 / (1 + np.exp(-1)),  # what the user has rated does not count
        1.0,  # nor does anything where all of it was rated
    ]
    losses = -np.log(shares)
    assert float(softmax_loss(scores, is_negative, None)) == pytest.approx(losses.mean(), rel=1e-6)
    weight = torch.tensor([2.0, 0.5, 0.5])
    assert float(softmax_loss(scores, is_negative, weight)) == pytest.approx((losses * weight.numpy()).mean(), rel=1e-6)


def test_what_a_movie_s_chance_to_be_drawn_brings_is_taken_out():
    """Movies 2 to 4 are drawn with chances of a half, a quarter and one; movies 3 and 4 are shared."""
    chance = torch.tensor([0.0, 0.0, np.log(0.5), np.log(0.25), 0.0])
    movie, shared_movie = torch.tensor([2, 4]), torch.tensor([3, 4])
    shared = Shared(shared_movie, torch.zeros(2, dtype=torch.long), torch.ones(2, 2, dtype=torch.bool), chance)
    batch = Batch(user=movie, movie=movie, fold=movie, label=torch.ones(2), weight=None, history=None, shared=shared)
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    own, others = [np.exp(1) / 0.5, 1.0], [[np.exp(2) / 0.25, np.exp(0.5)], [np.exp(-1) / 0.25, np.exp(3)]]
    losses = [-np.log(one / (one + sum(rest))) for one, rest in zip(own, others)]
    assert float(SharedSoftmax().loss(scores, batch)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_where_all_movies_are_drawn_alike_nothing_is_taken_out():
    movie = torch.tensor([2])
    shared = Shared(torch.tensor([3]), torch.zeros(1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
    batch = Batch(user=movie, movie=movie, fold=movie, label=torch.ones(1), weight=None, history=None, shared=shared)
    scores = torch.tensor([[0.5, 1.0]])
    assert torch.equal(without_chance(scores, batch), scores)


def test_what_a_user_has_rated_is_not_pushed_down():
    scores = torch.tensor([[0.3, 1.0, 2.0], [0.1, 0.0, 0.0]], requires_grad=True)
    softmax_loss(scores, torch.tensor([[True, False], [False, False]]), None).backward()
    assert scores.grad[0, 1] > 0 > scores.grad[0, 0]
    assert scores.grad[0, 2] == 0
    assert not scores.grad[1].any()


def test_the_loss_of_large_scores_is_finite():
    scores = torch.tensor([[500.0, -500.0], [-500.0, 500.0]], requires_grad=True)
    loss = softmax_loss(scores, torch.ones(2, 1, dtype=torch.bool), None)
    assert float(loss.detach()) == pytest.approx(500)
    loss.backward()
    assert scores.grad.isfinite().all()


def test_scores_of_a_softmax_stay_apart_as_probabilities():
    """Only differences are learned: scores that lie 20 apart are no rare thing, nor are those above 10."""
    scores = torch.linspace(-20, 20, 4001)
    assert len(torch.unique(torch.sigmoid(scores + SOFTMAX_OFFSET))) == 4001
    assert len(torch.unique(torch.sigmoid(scores))) < 4001


# -- scores ------------------------------------------------------------------------------------------------------------


def features_of(prepared, details: bool) -> Features:
    """The last users and movies are out of vocabulary."""
    features = less_vocabulary(load_features(prepared, "leave-one-out"))
    return with_details(features) if details else features


def made(features: Features, name: str, sizes: dict) -> Recommender:
    model = build(name, features, small(name, **sizes), seed=1)
    model.offset.fill_(-1.5)
    return with_wider_scores(model)


def batch_of(model: Recommender, features: Features) -> Batch:
    rows = features.interactions("train")
    past = timeline(features, ("train",), LENGTH) if model.uses_history else None
    sampling = Sampling(batch_size=40, shared_negatives=13)
    return next(iter(Batches(rows, features.rated_movies, sampling, CPU, past=past).epoch(1)))


@torch.no_grad()
def by_pairs(model: Recommender, batch: Batch) -> Tensor:
    return model._against_by_pairs(batch)


@torch.no_grad()
@pytest.mark.parametrize("details", [False, True], ids=["bare", "detailed"])
@pytest.mark.parametrize("case", SIZES)
def test_scores_of_positives_and_of_what_they_share_are_those_of_pairs(prepared, case, details):
    features = features_of(prepared, details)
    model = made(features, case.split()[0], SIZES[case])
    batch = batch_of(model, features)
    found = model.against(batch)
    assert found.shape == (40, 14)
    assert found.std() > 0.01
    expected = by_pairs(model, batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("history", [0, LENGTH])
def test_the_statistics_of_dlrm_s_user_leave_out_the_fold_of_the_positive(prepared, history):
    """So each positive and all that it is told from see the same user; pair by pair, a negative leaves out its own."""
    features = features_of(prepared, details=True)
    model = made(features, "dlrm", {"history": history, "user_statistics": True})
    batch = batch_of(model, features)
    found, expected = model.against(batch), by_pairs(model, batch)
    torch.testing.assert_close(found[:, 0], expected[:, 0], atol=1e-5, rtol=0)
    is_same = batch.fold[:, None] == batch.shared.fold
    torch.testing.assert_close(found[:, 1:][is_same], expected[:, 1:][is_same], atol=1e-5, rtol=0)
    assert (found[:, 1:][~is_same] - expected[:, 1:][~is_same]).abs().max() > 1e-4
    fold = torch.full_like(batch.shared.fold, 1)
    one_fold = replace(batch, fold=torch.full_like(batch.fold, 1), shared=replace(batch.shared, fold=fold))
    torch.testing.assert_close(model.against(one_fold), by_pairs(model, one_fold), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_scores_of_sequences_are_those_of_pairs_with_what_came_before(prepared):
    """The positions of states count from the window's end: one user and state at a time, the window is cut there."""
    features = features_of(prepared, details=False)
    model = made(features, "sasrec", {"history": LENGTH})
    rows = features.interactions("train")
    past = timeline(features, ("train",), LENGTH)
    sampling = Sampling(batch_size=40, shared_negatives=13)
    checked = 0
    for batch in SequenceBatches(rows, features.rated_movies, sampling, CPU, past=past).epoch(1):
        found = model.against(batch)
        assert found.shape == (len(batch), 14)
        whole = batch.state == batch.lengths[batch.owner] - 1
        latest = torch.full((int(whole.sum()), LENGTH), NOTHING)
        owners = batch.owner[whole]
        latest[:, :] = batch.inputs[owners].flip(1)
        movie = torch.cat([batch.movie[whole][:, None], batch.shared.movie.expand(len(owners), -1)], dim=1)
        user = model.network.after(model.movie_rows(latest))
        table = model.network.table.table.weight[model.movie_rows(movie)]
        expected = (user[:, None] * table[..., :-1]).sum(dim=2) + table[..., -1] + model.offset
        torch.testing.assert_close(found[whole], expected, atol=1e-5, rtol=0)
        checked += len(owners)
    assert checked > 20


@pytest.mark.parametrize("case", SIZES)
def test_every_trained_weight_has_a_gradient(prepared, case):
    """Weights that the fast scores passed over would stay as they were drawn."""
    features = features_of(prepared, details=True)
    name = case.split()[0]
    model = made(features, name, SIZES[case])
    batch, objective = batch_of(model, features), SharedSoftmax()
    gradients = []
    for scores in (model.against(batch), model._against_by_pairs(batch)):
        model.zero_grad()
        objective.loss(scores, batch).backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    fast, slow = gradients
    without = {key for key in slow if not slow[key].any()} | {"network.bias"}
    for key in slow.keys() - without:
        torch.testing.assert_close(fast[key], slow[key], atol=1e-5, rtol=1e-3, msg=key)


def test_the_folds_of_what_is_shared_are_folds(prepared):
    features = features_of(prepared, details=False)
    batch = batch_of(made(features, "ncf", {}), features)
    assert int(batch.shared.fold.min()) >= 0
    assert int(batch.shared.fold.max()) < FOLDS
    assert NETWORKS["ncf"].against is not None
