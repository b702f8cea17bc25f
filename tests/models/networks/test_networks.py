"""The networks against forward passes written out in plain PyTorch, and which inputs they see."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from merlin.models.torch.blocks.dlrm import DLRMInteraction
from torch import Tensor

from core.columns import CONTINUOUS, MOVIE_ID, USER_ID
from core.errors import UserError
from models.data.features import Features
from models.data.load import load_features
from models.networks._blocks import table_of
from models.networks.base import NetworkSettings, Recommender, build
from models.networks.dlrm import PairProducts
from tests.contracts.networks import every_pair, scores
from tests.models.sizes import SMALL, sized, small
from tests.models.synthetic import USER_DETAILS, synthetic_features
from tests.names import COMPARED, NETWORKS, PROTOCOLS
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, OUT_OF_VOCABULARY

USERS, MOVIES = 12, 20  # rows of the side tables
USER_EMBEDDINGS, MOVIE_EMBEDDINGS = 10, 15  # the indices from there on are out of vocabulary


def features_with(details: Iterable[str] = USER_DETAILS) -> Features:
    return synthetic_features(USERS, MOVIES, USER_EMBEDDINGS, MOVIE_EMBEDDINGS, details)


def with_side(features: Features, **changes: Tensor) -> Features:
    return replace(features, side=replace(features.side, **changes))


# -- written out -------------------------------------------------------------------------------------------------------


class Weights:
    """A model's weights by the part of the network that they belong to."""

    def __init__(self, model: Recommender):
        self.state = model.state_dict()

    def one(self, *parts: str) -> Tensor:
        """The only weight whose name has all of these parts."""
        (name,) = [name for name in self.state if all(part in name for part in parts)]
        return self.state[name]

    def mlp(self, prefix: str, x: Tensor) -> Tensor:
        """Linear and ReLU, layer after layer, of the layers under `prefix`."""
        names = [name for name in self.state if name.startswith(prefix) and name.endswith(".weight")]
        assert names
        for name in names:
            x = torch.relu(x @ self.state[name].T + self.state[name.removesuffix("weight") + "bias"])
        return x


def vocabulary(index: Tensor, embeddings: int) -> Tensor:
    return torch.where(index < embeddings, index, OUT_OF_VOCABULARY)


def ncf_by_hand(model: Recommender, user: Tensor, movie: Tensor) -> Tensor:
    """NeuMF: h^T [p * q ; MLP([p' ; q'])] + b."""
    weights = Weights(model)
    user, movie = vocabulary(user, USER_EMBEDDINGS), vocabulary(movie, MOVIE_EMBEDDINGS)
    table = {
        (branch, kind): weights.one(f"branches.{branch}.", f"branches.{kind}_id.", "table.weight")
        for branch in ("gmf", "mlp")
        for kind in ("user", "movie")
    }
    product = table["gmf", "user"][user] * table["gmf", "movie"][movie]
    both = torch.cat([table["mlp", "movie"][movie], table["mlp", "user"][user]], dim=1)  # Merlin sorts by name
    hidden = weights.mlp("network.values.0.branches.mlp.values.1", both)
    last = torch.cat([product, hidden], dim=1)
    return (last @ weights.one("network.values.2", ".weight").T + weights.one("network.values.2", ".bias")).squeeze(1)


def dlrm_by_hand(model: Recommender, features: Features, user: Tensor, movie: Tensor, fold: Tensor) -> Tensor:
    """Top MLP of the bottom MLP's output and all pairwise dot products of it and the embeddings."""
    weights, side = Weights(model), features.side
    continuous = torch.cat(
        [side.movie_features[movie], side.movie_statistics[fold, movie], side.user_statistics[fold, user]], dim=1
    )
    bottom = weights.mlp("network.values.0.values.0.branches.continuous", continuous)
    index = {
        USER_ID: vocabulary(user, USER_EMBEDDINGS),
        MOVIE_ID: vocabulary(movie, MOVIE_EMBEDDINGS),
        **{name: side.user_details[user, position] for position, name in enumerate(side.detail_names)},
    }
    vectors = {name: weights.one(f"branches.{name}.", "table.weight")[place] for name, place in index.items()}
    vectors[CONTINUOUS] = bottom
    names = sorted(vectors)  # Merlin stacks them by name
    dots = [
        (vectors[one] * vectors[other]).sum(dim=1)
        for position, one in enumerate(names)
        for other in names[position + 1 :]
    ]
    top = weights.mlp("network.values.0.values.2", torch.cat([bottom, torch.stack(dots, dim=1)], dim=1))
    return (top @ weights.one("network.values.1", ".weight").T + weights.one("network.values.1", ".bias")).squeeze(1)


def test_mf_is_two_biases_and_a_dot_product():
    features = features_with()
    model = build("mf", features, small("mf"), seed=1)
    user, movie = every_pair(features)
    table = {name: table.weight for name, table in model.embedding_tables()}
    p = table[USER_ID][vocabulary(user, USER_EMBEDDINGS)]
    q = table[MOVIE_ID][vocabulary(movie, MOVIE_EMBEDDINGS)]
    assert p.shape[1] == SMALL["dim"] + 1
    expected = (p[:, :-1] * q[:, :-1]).sum(dim=1) + p[:, -1] + q[:, -1]
    torch.testing.assert_close(scores(model, user, movie), expected.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_stars_start_at_their_mean_and_logits_at_none(prepared, protocol, name):
    features = load_features(prepared, protocol)
    offset = build(name, features, small(name), seed=1).state_dict()["offset"].item()
    stars = features.interactions("train").stars.mean().item()
    assert offset == pytest.approx(stars if protocol == "rating" else 0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_ncf_is_neumf_written_out(dropout):
    features = features_with()
    model = build("ncf", features, small("ncf", dropout=dropout), seed=1)
    user, movie = every_pair(features)
    found = scores(model, user, movie)
    assert found.std() > 0.01
    torch.testing.assert_close(found, ncf_by_hand(model, user, movie), atol=1e-6, rtol=0)


def test_ncf_starts_as_matrix_factorisation_where_its_mlp_says_nothing():
    features = features_with()
    model = build("ncf", features, small("ncf"), seed=1)
    gmf, tower = (model.network.values[0].branches[part] for part in ("gmf", "mlp"))
    user, movie = every_pair(features)
    codes = model.codes(user, movie)
    with torch.no_grad():
        for weight in tower.parameters():
            weight.zero_()
        product = table_of(gmf, USER_ID)[codes[USER_ID]] * table_of(gmf, MOVIE_ID)[codes[MOVIE_ID]]
        found = scores(model, user, movie)
    torch.testing.assert_close(found - found[0], product.sum(dim=1) - product[0].sum())


@pytest.mark.parametrize("details", [USER_DETAILS, ()], ids=["details", "no details"])
@pytest.mark.parametrize(
    "sizes", [{}, {"bottom": (), "dropout": 0.3}], ids=["two layers at the bottom", "one, and dropout"]
)
def test_dlrm_is_the_paper_written_out(details, sizes):
    features = features_with(details)
    model = build("dlrm", features, small("dlrm", **sizes), seed=1)
    user, movie = every_pair(features)
    fold = torch.arange(len(user)) % (FOLDS + 1)
    found = scores(model, user, movie, fold)
    assert found.std() > 0.01
    torch.testing.assert_close(found, dlrm_by_hand(model, features, user, movie, fold), atol=1e-6, rtol=0)


@pytest.mark.parametrize("vectors", [2, 3, 6])
def test_pair_products_are_merlins_interaction(vectors):
    """Values, their order, and what flows back."""
    generator = torch.Generator().manual_seed(vectors)
    given = [torch.randn((50, vectors, 8), generator=generator)] * 2
    ours, merlins = (values.clone().requires_grad_() for values in given)
    found, expected = PairProducts()(ours), DLRMInteraction()(merlins)
    assert found.shape == (50, vectors * (vectors - 1) // 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(found.shape, generator=generator)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, merlins.grad, atol=1e-5, rtol=1e-5)


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("history", [0, 4])
def test_prepared_features_make_a_model(prepared, protocol, name, history):
    features = load_features(prepared, protocol)
    settings = sized(name, {"mlp_dim": 16, "history": history})
    model = build(name, features, settings, seed=1)
    sizes = {tuple(table.weight.shape) for _, table in model.embedding_tables()}
    widths = {"dlrm": {settings.dim}, "ncf": {settings.dim, 16}, "mf": {settings.dim + 1}}[name]  # MF's has the bias
    rows = (features.user_embeddings, features.movie_embeddings)
    assert sizes == {(of, width) for of in rows for width in widths}
    assert len(model.embedding_tables()) == {"dlrm": 2 + (history > 0), "ncf": 4, "mf": 2}[name]
    assert model.uses_history == (name == "dlrm" and history > 0)
    last_user, last_movie = torch.tensor([features.users - 1]), torch.tensor([features.movies - 1])
    assert scores(model, last_user, last_movie).isfinite().all()


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="unknown network 'svd'; choose one of dlrm, ncf, sasrec, mf"):
        build("svd", features_with(), NetworkSettings(), seed=1)


@pytest.mark.parametrize("name", COMPARED)
def test_dropout_drops_in_training_only(name):
    features = features_with()
    model = build(name, features, small(name, dropout=0.5), seed=1)
    user, movie = every_pair(features)
    torch.testing.assert_close(scores(model, user, movie), scores(model, user, movie), atol=0, rtol=0)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(model(user, movie), model(user, movie))


# -- which inputs a network sees ---------------------------------------------------------------------------------------


def test_dlrm_scores_movies_out_of_vocabulary_by_their_features():
    model = build("dlrm", features_with(), small("dlrm"), seed=1)
    user = torch.arange(USERS)
    first, second = (scores(model, user, torch.full_like(user, MOVIE_EMBEDDINGS + i)) for i in (0, 1))
    assert not torch.isclose(first, second).all()


@pytest.mark.parametrize("table", ["movie_features", "movie_statistics", "user_statistics", "user_details"])
def test_dlrm_sees_features_and_ncf_does_not(table):
    features = features_with()
    values = getattr(features.side, table).clone()
    if table == "user_details":
        values[5] = (values[5] + 1) % 5
    else:
        values[..., 5, :] += 1
    changed = with_side(features, **{table: values})
    user, movie = every_pair(features)
    about_5 = (user if table.startswith("user") else movie) == 5
    before, after = (scores(build("dlrm", of, small("dlrm"), seed=1), user, movie) for of in (features, changed))
    # Most, not all: a unit of ReLU may be off before and after.
    assert torch.isclose(before[about_5], after[about_5]).float().mean() < 0.2
    assert torch.equal(before[~about_5], after[~about_5])
    before, after = (scores(build("ncf", of, small("ncf"), seed=1), user, movie) for of in (features, changed))
    assert torch.equal(before, after)


@pytest.mark.parametrize("fold", range(FOLDS + 1))
def test_a_fold_takes_its_own_statistics(fold):
    features = features_with()
    user, movie = every_pair(features)
    found = scores(build("dlrm", features, small("dlrm"), seed=1), user, movie, torch.full_like(user, fold))
    only = with_side(
        features,
        user_statistics=features.side.user_statistics[fold].expand(FOLDS + 1, -1, -1).clone(),
        movie_statistics=features.side.movie_statistics[fold].expand(FOLDS + 1, -1, -1).clone(),
    )
    torch.testing.assert_close(
        found, scores(build("dlrm", only, small("dlrm"), seed=1), user, movie), atol=1e-6, rtol=0
    )


def test_no_fold_is_the_last_one_and_the_others_differ():
    features = features_with()
    model = build("dlrm", features, small("dlrm"), seed=1)
    user, movie = every_pair(features)
    by_fold = [scores(model, user, movie, torch.full_like(user, fold)) for fold in range(FOLDS + 1)]
    torch.testing.assert_close(scores(model, user, movie), by_fold[FOLDS], atol=1e-6, rtol=0)
    assert not any(torch.isclose(of_fold, by_fold[FOLDS]).all() for of_fold in by_fold[:FOLDS])


# -- reserved rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_reserved_rows_are_filled_with_the_mean_of_the_others(name):
    model = build(name, features_with(), small(name), seed=1)
    before = [table.weight.detach().clone() for _, table in model.embedding_tables()]
    known = torch.full((3,), FIRST_INDEX)
    trained = model.reserved_rows(known, torch.tensor([FIRST_INDEX, MOVIE_EMBEDDINGS, MOVIES - 1]))
    model.fill_reserved_rows(trained)
    for (feature, table), old in zip(model.embedding_tables(), before):
        assert torch.equal(table.weight[FIRST_INDEX:], old[FIRST_INDEX:])
        mean = old[FIRST_INDEX:].double().mean(dim=0).float()
        left_alone = [OUT_OF_VOCABULARY] if feature == "movie_id" else trained[feature]
        assert trained[feature] == left_alone
        for row in range(FIRST_INDEX):
            expected = old[row] if row in left_alone else mean
            torch.testing.assert_close(table.weight[row].detach(), expected, atol=1e-6, rtol=0)
        assert table.weight.requires_grad
