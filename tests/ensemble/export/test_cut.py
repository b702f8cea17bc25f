"""A network cut in three scores as the whole one, for users and movies in the vocabulary and out of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ensemble.export.cut import DLRMHead, NCFHead, Sides, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from merlin.schema import ColumnSchema, Tags

from core.columns import HISTORY, HISTORY_STARS
from models.data.features import Features, load_features
from models.networks.base import NetworkSettings, Recommender, build, in_vocabulary
from tests.names import COMPARED

DETAIL_CODES = {"gender": 5, "age": 7, "occupation": 6}
USER_DETAILS = tuple(DETAIL_CODES)
OUT = 10  # users and movies, the last ones, without an embedding of their own
SIZES = {
    "dlrm with history": NetworkSettings(dim=8, bottom=(16,), top=(12, 6), init_std=0.5, history=5),
    "dlrm without history": NetworkSettings(dim=8, bottom=(16,), top=(12, 6), init_std=0.5, history=0),
    "dlrm without statistics": NetworkSettings(dim=8, bottom=(), top=(12,), init_std=0.5, user_statistics=False),
    "dlrm with history alone": NetworkSettings(dim=8, init_std=0.5, dropout=0.5, history=3, user_statistics=False),
    "ncf": NetworkSettings(dim=6, mlp_dim=10, top=(12, 6), init_std=0.5, dropout=0.5),
    "ncf of one size": NetworkSettings(dim=8, top=(12,), init_std=0.5),
}


@pytest.fixture(scope="module")
def bare(prepared) -> Features:
    """Without user details; the last users and movies are out of vocabulary, some movies of pasts among them."""
    features = load_features(prepared, "leave-one-out")
    less = {name: getattr(features, name) - OUT for name in ("user_embeddings", "movie_embeddings")}
    return replace(features, **less)


@pytest.fixture(scope="module")
def detailed(bare) -> Features:
    """The same with made-up gender, age and occupation."""
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, DETAIL_CODES[name], (bare.users,), generator=generator) for name in USER_DETAILS]
    columns = [
        ColumnSchema(
            name,
            dtype=np.int64,
            tags=[Tags.CATEGORICAL, Tags.USER],
            properties={"domain": {"min": 0, "max": DETAIL_CODES[name] - 1, "name": name}},
        )
        for name in USER_DETAILS
    ]
    side = replace(bare.side, user_details=torch.stack(codes, dim=1), detail_names=USER_DETAILS)
    return replace(bare, schema=type(bare.schema)([*bare.schema, *columns]), side=side)


def built(features: Features, case: str) -> Recommender:
    return with_wider_scores(build(case.split()[0], features, SIZES[case], seed=1))


@torch.no_grad()
def with_wider_scores(model: Recommender) -> Recommender:
    """Fresh layers make all pairs score nearly alike; these do not."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight *= 2
    return model.eval()


def sides_of(model: Recommender, features: Features) -> Sides:
    return cut(model, features.users, features.movies)


def every_pair(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    grid = torch.cartesian_prod(torch.arange(features.users), torch.arange(features.movies))
    return grid[:, 0], grid[:, 1]


@torch.no_grad()
def whole(model: Recommender, user: torch.Tensor, movie: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(model(user, movie))


@torch.no_grad()
def together(sides: Sides, user: torch.Tensor, movie: torch.Tensor) -> torch.Tensor:
    """What the head makes of the rows of pairs."""
    rows = (torch.from_numpy(table) for table in (sides.users, sides.vectors, sides.hidden))
    return sides.head(*(table[index] for table, index in zip(rows, (user, movie, movie))))


def test_the_features_have_what_the_tests_are_for(bare, detailed):
    assert bare.users - bare.user_embeddings == OUT
    assert bare.movies - bare.movie_embeddings == OUT + 2
    assert not bare.side.detail_names
    assert detailed.side.user_details.shape == (bare.users, 3)


@pytest.mark.parametrize("details", ["bare", "detailed"])
@pytest.mark.parametrize("case", SIZES)
def test_the_parts_score_every_pair_as_the_whole_network(request, details, case):
    features = request.getfixturevalue(details)
    model = built(features, case)
    user, movie = every_pair(features)
    expected = whole(model, user, movie)
    assert expected.std() > 0.01
    torch.testing.assert_close(together(sides_of(model, features), user, movie), expected, atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(COMPARED),
    with_details=st.booleans(),
    seed=st.integers(0, 2**31),
    network=st.builds(
        NetworkSettings,
        dim=st.integers(1, 9),
        mlp_dim=st.sampled_from([0, 1, 5, 12]),
        bottom=st.lists(st.integers(1, 9), max_size=2).map(tuple),
        top=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        init_std=st.just(0.5),
        history=st.sampled_from([0, 1, 4, 50]),
        user_statistics=st.booleans(),
    ),
)
def test_networks_of_any_size_can_be_cut(bare, detailed, name, with_details, seed, network):
    features = detailed if with_details else bare
    model = with_wider_scores(build(name, features, network, seed))
    rng = np.random.default_rng(seed)
    user, movie = (torch.from_numpy(rng.integers(0, rows, 300)) for rows in (features.users, features.movies))
    found = together(sides_of(model, features), user, movie)
    torch.testing.assert_close(found, whole(model, user, movie), atol=1e-6, rtol=0)


@pytest.mark.parametrize("details", ["bare", "detailed"])
@pytest.mark.parametrize("case", SIZES)
def test_the_head_for_one_user_is_the_head_for_pairs(request, details, case):
    features = request.getfixturevalue(details)
    sides = sides_of(built(features, case), features)
    one_user = sides.head.for_one_user()
    vectors, hidden = torch.from_numpy(sides.vectors), torch.from_numpy(sides.hidden)
    movie = torch.arange(features.movies)
    for user in (0, 2, 3, 17, features.user_embeddings, features.users - 1):
        pairs = together(sides, torch.full_like(movie, user), movie)
        with torch.no_grad():
            found = one_user(torch.from_numpy(sides.users[user : user + 1]), vectors, hidden)
        torch.testing.assert_close(found, pairs, atol=1e-6, rtol=0)


def test_making_the_head_for_one_user_leaves_the_other_as_it_was(detailed):
    sides = sides_of(built(detailed, "dlrm with history"), detailed)
    user, movie = every_pair(detailed)
    before = together(sides, user, movie)
    assert sides.head.for_one_user().one_user
    assert not sides.head.one_user
    assert torch.equal(together(sides, user, movie), before)


@pytest.mark.parametrize("case", SIZES)
def test_there_is_a_row_for_every_index_and_none_of_it_is_double(detailed, case):
    """One row for each user and each movie, however they are paired: neither can depend on the other."""
    sides = sides_of(built(detailed, case), detailed)
    size = SIZES[case]
    kinds = 1 + len(USER_DETAILS) + 2 * (size.history > 0)
    first = {"dlrm": (*size.bottom, size.dim)[0], "ncf": size.top[0]}[case.split()[0]]
    of_user = kinds * size.dim if case.startswith("dlrm") else size.dim
    assert sides.users.shape == (detailed.users, of_user + first)
    assert sides.vectors.shape == (detailed.movies, size.dim)
    assert sides.hidden.shape == (detailed.movies, first)
    learned = size.dim if case.startswith("dlrm") else size.dim + (size.mlp_dim or size.dim)
    assert sides.embeddings.shape == (detailed.movies, learned)
    for table in (sides.users, sides.vectors, sides.hidden, sides.embeddings):
        assert table.dtype == np.float32
        assert np.isfinite(table).all()
    assert isinstance(sides.head, DLRMHead if case.startswith("dlrm") else NCFHead)


@pytest.mark.parametrize("case", SIZES)
def test_a_row_changes_with_its_own_user_or_movie_alone(bare, case):
    """The weights of one embedding, and the side table of DLRM, moved: rows of others and of the other side stay."""
    model = built(bare, case)
    before = sides_of(model, bare)
    with torch.no_grad():
        for name, table in model.embedding_tables():
            if name in ("user_id", "movie_id"):
                table.weight[7] += 1
    after = sides_of(model, bare)
    for table in ("users", "vectors"):
        changed = (getattr(before, table) != getattr(after, table)).any(axis=1)
        assert np.flatnonzero(changed).tolist() == [7]
    changed = np.flatnonzero((before.hidden != after.hidden).any(axis=1)).tolist()
    assert changed == ([7] if case.startswith("ncf") else [])  # DLRM's comes from features


@pytest.mark.parametrize("name", COMPARED)
def test_who_is_out_of_vocabulary_has_the_unknown_one_s_embedding(bare, name):
    case = {"dlrm": "dlrm without statistics", "ncf": "ncf"}[name]
    sides = sides_of(built(bare, case), bare)
    np.testing.assert_array_equal(sides.users[bare.user_embeddings :], np.tile(sides.users[2], (OUT, 1)))
    np.testing.assert_array_equal(sides.vectors[bare.movie_embeddings :], np.tile(sides.vectors[2], (OUT + 2, 1)))
    assert (sides.users[3 : bare.user_embeddings] != sides.users[2]).any(axis=1).all()


# -- the past ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SIZES)
def test_only_a_network_that_knows_of_moments_has_a_past(bare, case):
    assert (sides_of(built(bare, case), bare).past is not None) == (SIZES[case].history > 0)


@pytest.mark.parametrize("details", ["bare", "detailed"])
def test_a_user_s_row_holds_what_the_network_pools_of_their_last_movies(request, details):
    features = request.getfixturevalue(details)
    model = built(features, "dlrm with history")
    sides = sides_of(model, features)
    now = model.now(torch.arange(features.users))
    inputs = model.codes(torch.arange(features.users), torch.zeros(features.users, dtype=torch.int64))
    inputs |= {HISTORY: in_vocabulary(now.movies, model.movie_embeddings), HISTORY_STARS: now.stars}
    inputs["continuous"] = torch.zeros(features.users, len(features.side.movie_features[0]) + 3 + 3 + 4)
    with torch.no_grad():
        vectors = model.network.values[0].values[0](inputs)
    expected = torch.cat([vectors[HISTORY], vectors[HISTORY_STARS]], dim=1).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(sides.users[:, sides.past.columns], expected, atol=1e-6)
    assert sides.past.movies.shape == (features.movies, 8)
    assert sides.past.position.shape == (2, 5)


def test_the_mood_adds_to_the_last_columns_of_the_row_as_in_the_network(bare):
    model = built(bare, "dlrm with history")
    before = sides_of(model, bare)
    mood = torch.zeros_like(model.now_mood)
    rng = np.random.default_rng(0)
    mood[5] = torch.from_numpy(rng.normal(size=4).astype(np.float32))
    model.now_mood += mood
    after = sides_of(model, bare)
    width = before.past.mood.shape[1]
    moved = after.users - before.users
    np.testing.assert_allclose(moved[:, -width:], mood.numpy() @ before.past.mood, atol=1e-6)
    assert not moved[:, :-width].any()
    assert np.abs(moved[5]).max() > 0.01
