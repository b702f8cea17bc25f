"""What the parts of a network that is cut for serving hold. `NetworkContract` compares its scores with the whole's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import HISTORY, HISTORY_STARS
from models.cut import Cut
from models.data.features import Features
from models.data.load import load_features
from models.networks.base import Recommender, build, cut, in_vocabulary
from models.networks.dlrm import DLRMHead
from models.networks.ncf import NCFHead
from tests.contracts.networks import every_pair, scores, scores_of_cut, with_wider_scores
from tests.models.sizes import CUT_SIZES, small
from tests.models.synthetic import OUT, USER_DETAILS, less_vocabulary, with_details
from tests.names import COMPARED


@pytest.fixture(scope="module")
def bare(prepared) -> Features:
    """Without user details; the last users and movies are out of vocabulary, some movies of histories among them."""
    return less_vocabulary(load_features(prepared, "leave-one-out"))


@pytest.fixture(scope="module")
def detailed(bare) -> Features:
    """The same with a synthetic gender, age and occupation."""
    return with_details(bare)


def built(features: Features, case: str) -> Recommender:
    name = case.split()[0]
    return with_wider_scores(build(name, features, small(name, **CUT_SIZES[case]), seed=1))


def cut_of(model: Recommender, features: Features) -> Cut:
    return cut(model, features.users, features.movies)


def test_the_features_have_what_the_tests_are_for(bare, detailed):
    assert bare.users - bare.user_embeddings == OUT
    assert bare.movies - bare.movie_embeddings == OUT + 2
    assert not bare.side.detail_names
    assert detailed.side.user_details.shape == (bare.users, 3)


@st.composite
def sizes_of_networks(draw: st.DrawFn) -> tuple[str, dict]:
    """A network's name, and sizes that it has."""
    layers = st.integers(1, 9)
    name = draw(st.sampled_from(COMPARED))
    sizes = {"dim": layers, "top": st.lists(layers, min_size=1, max_size=3).map(tuple)}
    sizes |= {
        "dlrm": {
            "bottom": st.lists(layers, max_size=2).map(tuple),
            "history": st.sampled_from([0, 1, 4, 50]),
            "user_statistics": st.booleans(),
        },
        "ncf": {"mlp_dim": st.sampled_from([0, 1, 5, 12])},
    }[name]
    return name, {key: draw(values) for key, values in sizes.items()}


@settings(max_examples=60, deadline=None)
@given(network=sizes_of_networks(), has_details=st.booleans(), seed=st.integers(0, 2**31))
def test_networks_of_any_size_can_be_cut(bare, detailed, network, has_details, seed):
    name, sizes = network
    features = detailed if has_details else bare
    model = with_wider_scores(build(name, features, small(name, **sizes), seed))
    rng = np.random.default_rng(seed)
    user, movie = (torch.from_numpy(rng.integers(0, rows, 300)) for rows in (features.users, features.movies))
    found = scores_of_cut(cut_of(model, features), user, movie)
    torch.testing.assert_close(found, torch.sigmoid(scores(model, user, movie)), atol=1e-6, rtol=0)


def test_making_the_head_for_one_user_leaves_the_other_as_it_was(detailed):
    parts = cut_of(built(detailed, "dlrm with history"), detailed)
    user, movie = every_pair(detailed)
    before = scores_of_cut(parts, user, movie)
    assert parts.head.for_one_user().head.one_user
    assert not parts.head.head.one_user
    assert torch.equal(scores_of_cut(parts, user, movie), before)


@pytest.mark.parametrize("case", CUT_SIZES)
def test_there_is_a_row_for_every_index(detailed, case):
    """One row for each user and each movie, however they are paired: neither can depend on the other."""
    parts = cut_of(built(detailed, case), detailed)
    size = CUT_SIZES[case]
    dim, is_dlrm = size["dim"], case.startswith("dlrm")
    if is_dlrm:
        vectors = 1 + len(USER_DETAILS) + 2 * (size["history"] > 0)
        first, of_user, learned = (*size["bottom"], dim)[0], vectors * dim, dim
    else:
        first, of_user, learned = size["top"][0], dim, dim + (size["mlp_dim"] or dim)
    assert parts.users.shape == (detailed.users, of_user + first)
    assert parts.vectors.shape == (detailed.movies, dim)
    assert parts.hidden.shape == (detailed.movies, first)
    assert parts.embeddings.shape == (detailed.movies, learned)
    for table in (parts.users, parts.vectors, parts.hidden, parts.embeddings):
        assert table.dtype == np.float32
        assert np.isfinite(table).all()
    assert isinstance(parts.head.head, DLRMHead if is_dlrm else NCFHead)


@pytest.mark.parametrize("case", CUT_SIZES)
def test_a_row_changes_with_its_own_user_or_movie_alone(bare, case):
    """The weights of one embedding, and the side table of DLRM, changed: the rows of all others stay."""
    model = built(bare, case)
    before = cut_of(model, bare)
    with torch.no_grad():
        for name, table in model.embedding_tables():
            if name in ("user_id", "movie_id"):
                table.weight[7] += 1
    after = cut_of(model, bare)
    for table in ("users", "vectors"):
        changed = (getattr(before, table) != getattr(after, table)).any(axis=1)
        assert np.flatnonzero(changed).tolist() == [7]
    changed = np.flatnonzero((before.hidden != after.hidden).any(axis=1)).tolist()
    assert changed == ([7] if case.startswith("ncf") else [])  # DLRM's comes from features


@pytest.mark.parametrize("name", COMPARED)
def test_an_id_out_of_vocabulary_has_the_shared_embedding(bare, name):
    case = {"dlrm": "dlrm without statistics", "ncf": "ncf"}[name]
    parts = cut_of(built(bare, case), bare)
    np.testing.assert_array_equal(parts.users[bare.user_embeddings :], np.tile(parts.users[2], (OUT, 1)))
    np.testing.assert_array_equal(parts.vectors[bare.movie_embeddings :], np.tile(parts.vectors[2], (OUT + 2, 1)))
    assert (parts.users[3 : bare.user_embeddings] != parts.users[2]).any(axis=1).all()


# -- the history -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CUT_SIZES)
def test_only_a_network_that_sees_a_history_has_history_inputs(bare, case):
    assert (cut_of(built(bare, case), bare).history is not None) == (CUT_SIZES[case].get("history", 0) > 0)


@pytest.mark.parametrize("details", ["bare", "detailed"])
def test_a_user_s_row_holds_what_the_network_pools_of_their_last_movies(request, details):
    features = request.getfixturevalue(details)
    model = built(features, "dlrm with history")
    parts = cut_of(model, features)
    now = model.now(torch.arange(features.users))
    inputs = model.codes(torch.arange(features.users), torch.zeros(features.users, dtype=torch.int64))
    inputs |= {HISTORY: in_vocabulary(now.movies, model.movie_embeddings), HISTORY_STARS: now.stars}
    inputs["continuous"] = torch.zeros(features.users, len(features.side.movie_features[0]) + 3 + 3 + 4)
    with torch.no_grad():
        vectors = model.network.values[0].values[0](inputs)
    expected = torch.cat([vectors[HISTORY], vectors[HISTORY_STARS]], dim=1).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(parts.users[:, parts.history.history_columns], expected, atol=1e-6)
    assert parts.history.movies.shape == (features.movies, 8)
    assert parts.history.position.shape == (2, 5)


def test_recent_means_add_to_the_last_columns_of_the_row_as_in_the_network(bare):
    model = built(bare, "dlrm with history")
    before = cut_of(model, bare)
    means = torch.zeros_like(model.now_recent_means)
    rng = np.random.default_rng(0)
    means[5] = torch.from_numpy(rng.normal(size=4).astype(np.float32))
    model.now_recent_means += means
    after = cut_of(model, bare)
    weights, columns = before.history.recent_weights, before.history.recent_columns
    width = weights.shape[1]
    assert columns == slice(before.users.shape[1] - width, before.users.shape[1])
    moved = after.users - before.users
    np.testing.assert_allclose(moved[:, columns], means.numpy() @ weights, atol=1e-6)
    assert not moved[:, :-width].any()
    assert np.abs(moved[5]).max() > 0.01
