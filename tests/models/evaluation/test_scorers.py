"""Trained networks as functions: users as they were at other moments, and scores of lists as those of pairs."""

import warnings

import numpy as np
import pytest
import torch

from models.data.features import Features
from models.data.history import timeline
from models.data.load import load_features
from models.evaluation.scorers import list_scorer, network_scorer, pair_scorer, past_of
from models.networks.base import Recommender, build
from models.protocols.base import PROTOCOLS
from models.training.objective import SOFTMAX_OFFSET
from tests.contracts.networks import with_wider_scores
from tests.models.sizes import small
from tests.models.synthetic import less_vocabulary

CPU = torch.device("cpu")
PROTOCOL = "leave-one-out"
LENGTH = 4
WITH_HISTORY = ("dlrm", "sasrec")
BY_CUT = ("dlrm", "ncf", "sasrec", "mf")
BY_SHARED_MOVIES = ("svdpp", "fism", "ncf-history", "dlrm-without-history")


@pytest.fixture(scope="module")
def features(prepared) -> Features:
    return less_vocabulary(load_features(prepared, PROTOCOL))


def made(features: Features, name: str) -> Recommender:
    model = with_wider_scores(build(name, features, small(name, history=LENGTH, dropout=0.5), seed=1))
    model.offset.fill_(-0.5)
    model.scale.fill_(1.5)
    return model


def every(features: Features) -> tuple[np.ndarray, np.ndarray]:
    grid = np.indices((features.users, features.movies)).reshape(2, -1)
    return grid[0], grid[1]


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_as_of_changes_the_users_asked_about_and_not_the_model(features, name):
    model = made(features, name)
    before = {key: value.clone() for key, value in model.named_buffers()}
    asked = torch.tensor([5, 9, 20])
    then = model.as_of(asked, timeline(features, ("train",), LENGTH).at(asked, torch.tensor([0, 3, 7])))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    user, movie = every(features)
    now, other = (pair_scorer(one, CPU, PROTOCOL)(user, movie) for one in (model, then))
    changed = np.isin(user, asked.numpy())
    np.testing.assert_array_equal(now[~changed], other[~changed])
    for one in asked.tolist():
        assert np.abs(now[user == one] - other[user == one]).max() > 1e-4
    rows = then.now(asked).movies
    assert (rows != 0).sum(dim=1).tolist() == [0, 3, 4]
    assert torch.equal(then.offset, model.offset)
    with torch.no_grad():
        model.offset.add_(1.0)
    assert torch.equal(then.offset, model.offset)  # weights, scale and offset are the model's own


@pytest.mark.parametrize("name", BY_CUT + BY_SHARED_MOVIES)
def test_scores_of_lists_are_those_of_pairs(features, name):
    """Of a model left in training, too: nothing is dropped."""
    model = made(features, name).train()
    users, movies = np.array([2, 5, 9, features.users - 1]), np.arange(features.movies)
    found = list_scorer(model, PROTOCOL)(users, movies)
    assert (found.shape, found.dtype) == ((4, features.movies), np.float32)
    pairs = pair_scorer(model, CPU, PROTOCOL)(np.repeat(users, len(movies)), np.tile(movies, 4))
    np.testing.assert_allclose(found, pairs.reshape(found.shape), atol=1e-5)
    assert found.std() > 0.01


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_questions_are_asked_as_of_their_own_moment(features, name):
    """Validation's, by pairs and by lists, against a model whose history ends there for everybody."""
    model = made(features, name)
    past = past_of(model, features, ("train", "valid"))
    questions = PROTOCOLS[PROTOCOL].questions(features, "valid").sampled
    asked = network_scorer(model, CPU, PROTOCOL, past).asked(questions)
    user = torch.from_numpy(questions.user.astype(np.int64))
    place = past.places_of(torch.tensor(questions.user), torch.tensor(questions.not_before)).long()
    history = past.at(user, place)
    movies = np.arange(features.movies)
    lists = asked.lists(user.numpy()[:5], movies)
    with torch.no_grad():
        for row in range(5):
            owner = torch.full((len(movies),), row)
            one = type(history)(history.movies, history.stars, history.recent_means, owner)
            logits = model(user[row].expand(len(movies)), torch.from_numpy(movies), None, one)
            np.testing.assert_allclose(lists[row], torch.sigmoid(logits).numpy(), atol=1e-5)
    pairs = asked.pairs(np.repeat(user.numpy()[:5], len(movies)), np.tile(movies, 5))
    np.testing.assert_allclose(pairs.reshape(lists.shape), lists, atol=1e-5)


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_asking_warns_of_nothing(features, name):
    """What is asked may be read-only: a file that is mapped into memory, or a broadcast array."""
    model = made(features, name)
    questions = PROTOCOLS[PROTOCOL].questions(features, "valid").sampled
    for column in (questions.user, questions.not_before):
        column.setflags(write=False)
    past = past_of(model, features, ("train",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)
        try:
            network_scorer(model, CPU, PROTOCOL, past).asked(questions)
        finally:
            torch.set_warn_always(False)


def test_probabilities_of_a_softmax_that_was_not_calibrated_stay_apart(features):
    """Movies that lie far above the others are still in an order."""
    model = made(features, "sasrec")
    with torch.no_grad():
        model.scale.fill_(1.0)
        model.offset.fill_(SOFTMAX_OFFSET)
        model.network.table.table.weight[:, -1] = torch.linspace(5, 20, len(model.network.table.table.weight))
    found = list_scorer(model, PROTOCOL)(np.array([2]), np.arange(3, model.movie_embeddings))
    assert len(np.unique(found)) == found.size
