"""DLRM with rated sets: what the two sets hold, and that no rating is in its own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.data.features import Features
from models.networks.base import build
from models.networks.dlrm_rated_sets import MOVIE_SET, USER_SET, SetsBlock
from models.registry import networks_of
from tests.models.sizes import small
from tests.models.synthetic import features_of_rows, rows_at
from tests.names import PROTOCOLS
from workflows.features.vocabulary import OUT_OF_VOCABULARY

NAME = "dlrm-rated-sets"
SIZE = 12  # users and movies
PAIRS = [(3, 5), (3, 6), (3, 7), (4, 5), (5, 11)]


@pytest.fixture
def features() -> Features:
    return features_of_rows(rows_at([(user, movie, 0) for user, movie in PAIRS]), SIZE, SIZE, "random-split")


def sets_of(features: Features) -> SetsBlock:
    (block,) = (module for module in build(NAME, features, small(NAME), 1).modules() if isinstance(module, SetsBlock))
    return block


def vectors(block: SetsBlock, user: int, movie: int) -> tuple[Tensor, Tensor]:
    """The user's and the movie's set as the network sees them of a pair."""
    owner, member = torch.tensor([user]), torch.tensor([movie])
    left_out = block.has(owner, member) if block.training else None
    return block.of_user(owner, member, left_out)[0], block.of_movie(member, owner, left_out)[0]


def test_a_set_is_the_sum_of_its_members_over_the_root_of_their_number(features):
    block = sets_of(features).eval()
    movies, users = block.of_user.weight, block.of_movie.weight
    user, movie = vectors(block, 3, 5)
    torch.testing.assert_close(user, (movies[5] + movies[6] + movies[7]) / 3**0.5)
    torch.testing.assert_close(movie, (users[3] + users[4]) / 2**0.5)
    user, movie = vectors(block, 4, 8)
    torch.testing.assert_close(user, movies[5])
    assert movie.tolist() == [0.0] * 8
    assert vectors(block, 9, 5)[0].tolist() == [0.0] * 8


def test_in_training_no_rating_is_in_its_own_sets(features):
    block = sets_of(features).train()
    movies, users = block.of_user.weight, block.of_movie.weight
    user, movie = vectors(block, 3, 5)
    torch.testing.assert_close(user, (movies[6] + movies[7]) / 2**0.5)
    torch.testing.assert_close(movie, users[4])
    assert [one.abs().max() < 1e-6 for one in vectors(block, 5, 11)] == [True, True]  # it was alone in both
    torch.testing.assert_close(vectors(block, 4, 6)[0], movies[5])  # a movie that the user has not rated


def test_each_pair_of_a_batch_has_the_sets_that_it_has_alone(features):
    model = build(NAME, features, small(NAME), 1).eval()
    user, movie = (index.reshape(-1) for index in torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"))
    with torch.no_grad():
        together = model(user, movie)
        alone = torch.cat([model(user[i : i + 1], movie[i : i + 1]) for i in range(len(user))])
    torch.testing.assert_close(together, alone)


def test_rare_ids_are_in_no_set_and_have_none(features):
    block = sets_of(replace(features, movie_embeddings=SIZE - 1, user_embeddings=SIZE)).eval()
    assert vectors(block, 5, 5)[0].tolist() == [0.0] * 8  # its one movie, 11, is rare
    assert vectors(block, 3, OUT_OF_VOCABULARY)[1].tolist() == [0.0] * 8


def test_a_rating_that_comes_twice_is_once_in_a_set(features):
    twice = features_of_rows(rows_at([(user, movie, 0) for user, movie in 2 * PAIRS]), SIZE, SIZE, "random-split")
    for one, other in zip(vectors(sets_of(features).eval(), 3, 5), vectors(sets_of(twice).eval(), 3, 5)):
        assert torch.equal(one, other)


def test_the_sets_are_of_the_splits_that_the_network_knows(prepared):
    from models.data.load import load_features

    features = load_features(prepared, "random-split")
    rows = {part: len(features.interactions(part)) for part in ("train", "valid")}

    def pairs(*known: str) -> int:
        model = build(NAME, features, small(NAME), 1, known)
        return next(len(module.pairs) for module in model.modules() if isinstance(module, SetsBlock))

    rare = rows["train"] - pairs("train")
    assert 0 <= rare < rows["train"]
    assert pairs("train") < pairs("train", "valid") <= sum(rows.values())


def test_the_weights_that_are_kept_are_those_that_were_trained(features):
    state = build(NAME, features, small(NAME), 1).state_dict()
    assert not [key for key in state if key.endswith(("pairs", "members", "starts"))]


def test_it_is_for_protocols_without_time():
    found = {protocol: NAME in networks_of(protocol) for protocol in PROTOCOLS}
    assert found == {protocol: protocol not in ("leave-one-out", "temporal") for protocol in PROTOCOLS}


def test_both_sets_meet_the_other_vectors(features):
    model = build(NAME, features, small(NAME), 1).eval()
    block = next(module for module in model.modules() if isinstance(module, SetsBlock))
    user, movie = torch.tensor([3]), torch.tensor([5])
    with torch.no_grad():
        before = model(user, movie).item()
        changed = []
        for table in (block.of_user.weight, block.of_movie.weight):
            table.add_(1.0)
            changed.append(model(user, movie).item())
            table.sub_(1.0)
    assert before not in changed
    assert {USER_SET, MOVIE_SET}.isdisjoint(dict(model.embedding_tables()))
