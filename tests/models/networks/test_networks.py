"""DLRM and NCF against forward passes written out in plain PyTorch, and what they may and may not look at."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from merlin.models.torch.blocks.dlrm import DLRMInteraction
from merlin.schema import ColumnSchema, Schema, Tags
from torch import Tensor

from core.columns import CONTINUOUS, LABEL, MOVIE_ID, USER_ID
from models.data.features import Features, SideTables, load_features
from models.networks.base import NetworkSettings, PairProducts, Recommender, build
from tests.names import COMPARED, NETWORKS, PROTOCOLS
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, OUT_OF_VOCABULARY

USERS, MOVIES = 12, 20  # rows of the side tables
USER_EMBEDDINGS, MOVIE_EMBEDDINGS = 10, 15  # the indices from there on are out of vocabulary
GENRES_AND_YEAR = 4
DETAIL_CODES = {"gender": 5, "age": 7, "occupation": 6}
USER_DETAILS = tuple(DETAIL_CODES)
SIZES = NetworkSettings(dim=8, bottom=(16,), top=(12, 6), dropout=0.0, init_std=0.5)


def made_up_features(details: Iterable[str] = USER_DETAILS) -> Features:
    """Features of a dataset that there is not, with every side table random."""
    generator = torch.Generator().manual_seed(0)
    names = tuple(details)
    columns = [
        torch.randint(0, DETAIL_CODES[name], (USERS, 1), generator=generator, dtype=torch.int64) for name in names
    ]
    side = SideTables(
        user_details=torch.cat(columns, dim=1) if columns else torch.zeros((USERS, 0), dtype=torch.int64),
        user_statistics=torch.randn((FOLDS + 1, USERS, 3), generator=generator),
        movie_features=torch.randn((MOVIES, GENRES_AND_YEAR), generator=generator),
        movie_statistics=torch.randn((FOLDS + 1, MOVIES, 3), generator=generator),
        detail_names=names,
    )

    def categorical(name: str, rows: int, *tags: Tags) -> ColumnSchema:
        domain = {"min": 0, "max": rows - 1, "name": name}
        return ColumnSchema(name, dtype=np.int64, tags=[Tags.CATEGORICAL, *tags], properties={"domain": domain})

    schema = Schema(
        [
            categorical(USER_ID, USER_EMBEDDINGS, Tags.USER, Tags.USER_ID),
            categorical(MOVIE_ID, MOVIE_EMBEDDINGS, Tags.ITEM, Tags.ITEM_ID),
            *(categorical(name, DETAIL_CODES[name], Tags.USER) for name in names),
            ColumnSchema(CONTINUOUS, dtype=np.float32, tags=[Tags.CONTINUOUS], dims=(None, GENRES_AND_YEAR + 3 + 3)),
            ColumnSchema(LABEL, dtype=np.float32, tags=[Tags.BINARY_CLASSIFICATION, Tags.TARGET]),
        ]
    )
    return Features(
        protocol="leave-one-out",
        dataset="made up",
        folder=Path("nowhere"),
        schema=schema,
        side=side,
        user_embeddings=USER_EMBEDDINGS,
        movie_embeddings=MOVIE_EMBEDDINGS,
        users=USERS,
        movies=MOVIES,
        rated_movies=MOVIES - FIRST_INDEX,
        fingerprint="made up",
    )


def pairs(features: Features) -> tuple[Tensor, Tensor]:
    """Every user with every movie, out-of-vocabulary ones included."""
    grid = torch.cartesian_prod(torch.arange(features.users), torch.arange(features.movies))
    return grid[:, 0], grid[:, 1]


@torch.no_grad()
def scores(model: Recommender, user: Tensor, movie: Tensor, fold: Tensor | None = None) -> Tensor:
    return model.eval()(user, movie, fold)


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
    features = made_up_features()
    model = build("mf", features, SIZES, seed=1)
    user, movie = pairs(features)
    table = {name: table.weight for name, table in model.embedding_tables()}
    p = table[USER_ID][vocabulary(user, USER_EMBEDDINGS)]
    q = table[MOVIE_ID][vocabulary(movie, MOVIE_EMBEDDINGS)]
    assert p.shape[1] == SIZES.dim + 1
    expected = (p[:, :-1] * q[:, :-1]).sum(dim=1) + p[:, -1] + q[:, -1]
    torch.testing.assert_close(scores(model, user, movie), expected.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_stars_start_at_their_mean_and_logits_at_none(prepared, protocol, name):
    features = load_features(prepared, protocol)
    offset = build(name, features, SIZES, seed=1).state_dict()["offset"].item()
    stars = features.interactions("train").stars.mean().item()
    assert offset == pytest.approx(stars if protocol == "rating" else 0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_ncf_is_neumf_written_out(dropout):
    features = made_up_features()
    model = build("ncf", features, replace(SIZES, dropout=dropout), seed=1)
    user, movie = pairs(features)
    found = scores(model, user, movie)
    assert found.std() > 0.01
    torch.testing.assert_close(found, ncf_by_hand(model, user, movie), atol=1e-6, rtol=0)


@pytest.mark.parametrize("details", [USER_DETAILS, ()], ids=["details", "no details"])
@pytest.mark.parametrize(
    "sizes", [SIZES, replace(SIZES, bottom=(), dropout=0.3)], ids=["two layers at the bottom", "one, and dropout"]
)
def test_dlrm_is_the_paper_written_out(details, sizes):
    features = made_up_features(details)
    model = build("dlrm", features, sizes, seed=1)
    user, movie = pairs(features)
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
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_a_logit_per_pair(name, rows):
    model = build(name, made_up_features(), SIZES, seed=1)
    user, movie = torch.arange(rows) % USERS, torch.arange(rows) % MOVIES
    found = scores(model, user, movie)
    assert found.shape == (rows,)
    assert found.dtype == torch.float32
    one_by_one = torch.cat([scores(model, user[i : i + 1], movie[i : i + 1]) for i in range(rows)])
    torch.testing.assert_close(found, one_by_one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("history", [0, 4])
def test_prepared_features_make_a_model(prepared, protocol, name, history):
    features = load_features(prepared, protocol)
    settings = NetworkSettings(mlp_dim=16, history=history)
    model = build(name, features, settings, seed=1)
    sizes = {tuple(table.weight.shape) for _, table in model.embedding_tables()}
    widths = {"dlrm": {settings.dim}, "ncf": {settings.dim, 16}, "mf": {settings.dim + 1}}[name]  # MF's has the bias
    rows = (features.user_embeddings, features.movie_embeddings)
    assert sizes == {(of, width) for of in rows for width in widths}
    assert len(model.embedding_tables()) == {"dlrm": 2 + (history > 0), "ncf": 4, "mf": 2}[name]
    assert model.uses_moments == (name == "dlrm" and history > 0)
    last_user, last_movie = torch.tensor([features.users - 1]), torch.tensor([features.movies - 1])
    assert scores(model, last_user, last_movie).isfinite().all()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="svd"):
        build("svd", made_up_features(), SIZES, seed=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_side_tables_are_no_weights(name):
    features = made_up_features()
    state = build(name, features, SIZES, seed=1).state_dict()
    assert not [key for key in state if "statistics" in key or "details" in key or "movie_features" in key]


@pytest.mark.parametrize("name", COMPARED)
def test_dropout_drops_in_training_only(name):
    features = made_up_features()
    model = build(name, features, replace(SIZES, dropout=0.5), seed=1)
    user, movie = pairs(features)
    torch.testing.assert_close(scores(model, user, movie), scores(model, user, movie), atol=0, rtol=0)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(model(user, movie), model(user, movie))


# -- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_fixes_the_weights(name):
    features = made_up_features()
    first, again, other = (build(name, features, SIZES, seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if key.endswith(".weight")]
    assert weights
    assert not [key for key in weights if torch.equal(first[key], other[key])]


@pytest.mark.parametrize("name", NETWORKS)
def test_building_leaves_the_global_generator_alone(name):
    features = made_up_features()
    before = torch.random.get_rng_state()
    build(name, features, SIZES, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_global_generator_does_not_change_the_weights(name):
    features = made_up_features()
    first = build(name, features, SIZES, seed=7).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        again = build(name, features, SIZES, seed=7).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_embeddings_start_with_the_spread_asked_for(name):
    model = build(name, made_up_features(), replace(SIZES, dim=64, init_std=0.01), seed=1)
    for _, table in model.embedding_tables():
        assert table.weight.std().item() == pytest.approx(0.01, rel=0.15)


# -- what a model looks at ---------------------------------------------------------------------------------------------


def test_ncf_scores_an_index_out_of_vocabulary_as_the_unknown_one():
    model = build("ncf", made_up_features(), SIZES, seed=1)
    user, movie = torch.arange(USERS), torch.arange(USERS) + 3
    unknown = torch.full_like(user, OUT_OF_VOCABULARY)
    assert torch.equal(scores(model, user, torch.full_like(user, MOVIE_EMBEDDINGS)), scores(model, user, unknown))
    assert torch.equal(scores(model, user, torch.full_like(user, MOVIES - 1)), scores(model, user, unknown))
    assert torch.equal(scores(model, torch.full_like(user, USER_EMBEDDINGS), movie), scores(model, unknown, movie))
    inside = scores(model, user, torch.full_like(user, MOVIE_EMBEDDINGS - 1))
    assert not torch.isclose(inside, scores(model, user, unknown)).any()


def test_dlrm_tells_movies_out_of_vocabulary_apart_by_their_features():
    model = build("dlrm", made_up_features(), SIZES, seed=1)
    user = torch.arange(USERS)
    first, second = (scores(model, user, torch.full_like(user, MOVIE_EMBEDDINGS + i)) for i in (0, 1))
    assert not torch.isclose(first, second).all()


@pytest.mark.parametrize("table", ["movie_features", "movie_statistics", "user_statistics", "user_details"])
def test_dlrm_sees_features_and_ncf_does_not(table):
    features = made_up_features()
    values = getattr(features.side, table).clone()
    if table == "user_details":
        values[5] = (values[5] + 1) % 5
    else:
        values[..., 5, :] += 1
    changed = with_side(features, **{table: values})
    user, movie = pairs(features)
    about_5 = (user if table.startswith("user") else movie) == 5
    before, after = (scores(build("dlrm", of, SIZES, seed=1), user, movie) for of in (features, changed))
    # Most, not all: a unit of ReLU may be off before and after.
    assert torch.isclose(before[about_5], after[about_5]).float().mean() < 0.2
    assert torch.equal(before[~about_5], after[~about_5])
    before, after = (scores(build("ncf", of, SIZES, seed=1), user, movie) for of in (features, changed))
    assert torch.equal(before, after)


@pytest.mark.parametrize("fold", range(FOLDS + 1))
def test_a_fold_takes_its_own_statistics(fold):
    features = made_up_features()
    user, movie = pairs(features)
    found = scores(build("dlrm", features, SIZES, seed=1), user, movie, torch.full_like(user, fold))
    only = with_side(
        features,
        user_statistics=features.side.user_statistics[fold].expand(FOLDS + 1, -1, -1).clone(),
        movie_statistics=features.side.movie_statistics[fold].expand(FOLDS + 1, -1, -1).clone(),
    )
    torch.testing.assert_close(found, scores(build("dlrm", only, SIZES, seed=1), user, movie), atol=1e-6, rtol=0)


def test_no_fold_is_the_last_one_and_the_others_differ():
    features = made_up_features()
    model = build("dlrm", features, SIZES, seed=1)
    user, movie = pairs(features)
    by_fold = [scores(model, user, movie, torch.full_like(user, fold)) for fold in range(FOLDS + 1)]
    torch.testing.assert_close(scores(model, user, movie), by_fold[FOLDS], atol=1e-6, rtol=0)
    assert not any(torch.isclose(of_fold, by_fold[FOLDS]).all() for of_fold in by_fold[:FOLDS])


# -- reserved rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_reserved_rows_are_filled_with_the_mean_of_the_others(name):
    model = build(name, made_up_features(), SIZES, seed=1)
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
