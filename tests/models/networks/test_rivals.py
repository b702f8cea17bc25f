"""The networks that tables show beside those that are compared: their formulas, and what they may know of a user."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.errors import UserError
from models.data.features import Features
from models.data.history import NOTHING, History
from models.data.load import load_features
from models.networks._blocks import RatedBefore, UserAndRatedBefore
from models.networks.base import NETWORKS, Recommender, build
from models.training.settings import TrainSettings, from_json
from tests.models.sizes import small
from tests.names import RIVALS
from workflows.features.vocabulary import OUT_OF_VOCABULARY

LENGTH = 4
USER = torch.tensor([3, 4, 5, 5])
MOVIE = torch.tensor([6, 3, 8, 9])
WITH_HISTORY = ["svdpp", "fism", "ncf-history"]


@pytest.fixture
def features(prepared) -> Features:
    return load_features(prepared, "leave-one-out")


@pytest.fixture
def history() -> History:
    """Of four samples: three movies, one, none, and as many as there is room for."""
    movies = torch.tensor([[5, 7, 9, NOTHING], [4, NOTHING, NOTHING, NOTHING], [NOTHING] * LENGTH, [3, 4, 5, 6]])
    return History(movies, torch.zeros(movies.shape), torch.zeros((4, 4)))


def made(name: str, features: Features, **sizes) -> Recommender:
    return build(name, features, small(name, history=LENGTH, **sizes), 1).eval()


def tables(model: Recommender) -> dict[str, Tensor]:
    return {name: table.weight.detach() for name, table in model.embedding_tables()}


@torch.no_grad()
def scores(model: Recommender, history: History) -> Tensor:
    return model(USER, MOVIE, None, history)


def pooled(table: Tensor, history: History, power: float) -> Tensor:
    """One user after the other, as the papers write it."""
    rows = []
    for codes in history.movies.tolist():
        there = [code for code in codes if code != NOTHING]
        total = sum((table[code] for code in there), torch.zeros(table.shape[1]))
        rows.append(total / max(1, len(there)) ** power)
    return torch.stack(rows)


def test_svdpp_is_the_formula_of_its_paper(features, history):
    model = made("svdpp", features)
    table = tables(model)
    user, movie = table["user_id"][USER], table["movie_id"][MOVIE]
    taste = user[:, :-1] + pooled(table["history"], history, 0.5)
    expected = user[:, -1] + movie[:, -1] + (taste * movie[:, :-1]).sum(dim=1)
    torch.testing.assert_close(scores(model, history), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_fism_is_the_formula_of_its_paper(features, history, alpha):
    model = made("fism", features, alpha=alpha)
    table = tables(model)
    assert table.keys() == {"movie_id", "history"}
    movie = table["movie_id"][MOVIE]
    expected = movie[:, -1] + (pooled(table["history"], history, alpha) * movie[:, :-1]).sum(dim=1)
    torch.testing.assert_close(scores(model, history), expected)
    with torch.no_grad():  # who the user is says nothing
        torch.testing.assert_close(model(USER.flip(0), MOVIE, None, history), expected)


def test_ncf_with_a_history_of_nothing_is_ncf(features, history):
    plain, model = made("ncf", features, mlp_dim=6), made("ncf-history", features, mlp_dim=6)
    blocks = [block for block in model.modules() if isinstance(block, UserAndRatedBefore)]
    assert [block.rated.table.table.weight.shape[1] for block in blocks] == [8, 6]
    weights = [p for name, p in model.named_parameters() if ".rated." not in name]
    with torch.no_grad():
        for one, other in zip(plain.parameters(), weights, strict=True):
            one.copy_(other)
        nothing = replace(history, movies=torch.full_like(history.movies, NOTHING))
        torch.testing.assert_close(scores(model, nothing), plain(USER, MOVIE))
        assert not torch.isclose(scores(model, history), plain(USER, MOVIE))[[0, 1, 3]].any()


def test_ncf_adds_the_history_to_the_users_of_both_branches(features, history):
    """Where the user's embeddings hold the sums themselves, and no history, the scores are the same."""
    model = made("ncf-history", features)
    user = torch.tensor([3, 4, 5, 6])
    nothing = replace(history, movies=torch.full_like(history.movies, NOTHING))
    with torch.no_grad():
        expected = model(user, MOVIE, None, history)
        for block in (block for block in model.modules() if isinstance(block, UserAndRatedBefore)):
            sums = pooled(block.rated.table.table.weight, history, 0.5)
            (users,) = (t for t in block.ids.modules() if getattr(t, "feature_to_domain", {}).keys() == {"user_id"})
            users.table.weight[user] += sums
        torch.testing.assert_close(model(user, MOVIE, None, nothing), expected)


def test_dlrm_without_history_is_dlrm_whose_history_is_0(features):
    one, other = made("dlrm-without-history", features), build("dlrm", features, small("dlrm", history=0), 1).eval()
    assert not one.uses_history
    with torch.no_grad():
        assert torch.equal(one(USER, MOVIE), other(USER, MOVIE))
    assert from_json("dlrm-without-history", {}, "x") == TrainSettings(network=NETWORKS[one.name].settings())
    with pytest.raises(UserError, match="history is 3"):
        from_json("dlrm-without-history", {"network": {"history": 3}}, "x")
    assert NETWORKS["dlrm"].space.keys() - NETWORKS["dlrm-without-history"].space.keys() == {"history"}


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_samples_that_share_a_history_score_as_if_each_had_its_own(features, history, name):
    model = made(name, features)
    owner = torch.tensor([2, 0, 3, 0])
    shared = replace(history, owner=owner)
    own = History(history.movies[owner], history.stars[owner], history.recent_means[owner])
    torch.testing.assert_close(scores(model, shared), scores(model, own))


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_movies_out_of_vocabulary_share_a_row_of_the_history(features, history, name):
    model = made(name, replace(features, movie_embeddings=features.movie_embeddings - 2))
    last = replace(history, movies=torch.full_like(history.movies, features.movies - 1))
    rare = replace(history, movies=torch.full_like(history.movies, OUT_OF_VOCABULARY))
    torch.testing.assert_close(scores(model, last), scores(model, rare))


def test_a_mean_and_a_sum_of_what_was_rated_before(features, history):
    for power, factor in ((0.0, 3.0), (0.5, 3.0**0.5), (1.0, 1.0)):
        block = RatedBefore(features, 2, power)
        with torch.no_grad():
            block.table.table.weight.fill_(1.0)
            found = block({"history": history.movies})
        torch.testing.assert_close(found[0], torch.full((2,), factor))
        assert found[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_are_rows_of_tables_and_no_more(name):
    network = NETWORKS[name]
    assert network.is_baseline
    assert not network.in_run
    assert not network.is_served


def test_run_leaves_out_the_rivals_and_sasrec():
    assert [name for name, one in NETWORKS.items() if not one.in_run] == ["sasrec", *RIVALS]
