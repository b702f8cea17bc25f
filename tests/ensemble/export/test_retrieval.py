"""The first of two stages: what it can learn, how it is judged, and that it is deterministic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ensemble.export import retrieval as source
from ensemble.export.retrieval import Query, Retrieval, Tower, fit_retrieval
from models.cut import Cut, Head
from workflows.features.vocabulary import FIRST_INDEX

FIRST = 3  # rows before the catalogue


class DotProduct(Head):
    """A ranking network that two towers can be: the sigmoid of one product, and of a bias of the movie."""

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        return torch.sigmoid((user * vector).sum(dim=1) + hidden.squeeze(1))


class ByIndex(Head):
    """Scores a movie by one number of its own, the same for everyone."""

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        return torch.sigmoid(hidden.squeeze(1) + 0 * user.sum(dim=1))


def synthetic(users: int, movies: int, dim: int = 6, head: Head | None = None, seed: int = 0) -> Cut:
    """Rows in front of the catalogue are absurd, so that code that reads them fails the tests."""
    rng = np.random.default_rng(seed)
    rows, vectors = (rng.normal(size=(FIRST + count, dim)).astype(np.float32) for count in (users, movies))
    hidden = rng.normal(size=(FIRST + movies, 1)).astype(np.float32)
    for table in (rows, vectors, hidden):
        table[:FIRST] = 1e4
    return Cut(users=rows, vectors=vectors, hidden=hidden, head=head or DotProduct(), embeddings=vectors)


def fitted(cut: Cut, seed: int = 0) -> Retrieval:
    return fit_retrieval(cut, range(FIRST, len(cut.users)), seed)


def recall_by_hand(cut: Cut, found: Retrieval, users: list[int], candidates: int) -> float:
    """Share of each user's exact ten that are among the nearest movies, without a line of the code under test."""
    shares = []
    for user in users:
        logits = cut.vectors[FIRST:] @ cut.users[user] + cut.hidden[FIRST:, 0]
        with torch.no_grad():
            near = found.query(torch.from_numpy(cut.users[user : user + 1]), torch.from_numpy(found.vectors)).numpy()
        exact, nearest = set(np.argsort(-logits)[:10]), set(np.argsort(-near)[:candidates])
        shares.append(len(exact & nearest) / 10)
    return float(np.mean(shares))


def test_the_first_row_of_the_catalogue():
    assert FIRST == FIRST_INDEX


def test_towers_learn_a_network_that_is_a_dot_product(monkeypatch):
    """Of 1,500 movies the 150 nearest have the best ten of everyone who was held out."""
    monkeypatch.setattr(source, "CANDIDATES", 150)
    cut = synthetic(users=300, movies=1_500)
    found = fitted(cut)
    assert found.recall == 1.0
    assert found.vectors.shape == (1_500, source.DIM)
    assert found.vectors.dtype == np.float32
    everyone = list(range(FIRST, FIRST + 300, 5))
    assert recall_by_hand(cut, found, everyone, 150) > 0.99
    assert recall_by_hand(cut, found, everyone, 30) > 0.7  # ten of thirty, where chance has 0.02


def test_the_recall_is_that_of_those_held_out(monkeypatch):
    monkeypatch.setattr(source, "CANDIDATES", 12)
    judged = []
    monkeypatch.setattr(source, "_recall", lambda *given: judged.append(given) or recall(*given))
    cut = synthetic(users=60, movies=400)
    found = fitted(cut)
    users = [int(np.flatnonzero((cut.users == row).all(axis=1))[0]) for row, _ in judged[0][4]]
    assert len(set(users)) == len(users) == 12
    assert 0.2 < found.recall < 1
    assert found.recall == pytest.approx(recall_by_hand(cut, found, users, 12), abs=1e-6)


recall = source._recall


@pytest.mark.parametrize(("users", "judged"), [(5, 1), (60, 12), (2_000, 200)])
def test_who_is_judged_is_not_trained_on(monkeypatch, users, judged):
    monkeypatch.setattr(source, "CANDIDATES", 10)
    cut, seen = synthetic(users, movies=20), {}
    monkeypatch.setattr(source, "_train", lambda *given: seen.update(trained=given[5]))
    monkeypatch.setattr(source, "_recall", lambda *given: seen.update(judged=[row[0] for row, _ in given[4]]) or 0.0)
    fitted(cut)
    trained = cut.users[seen["trained"].numpy()]
    together = np.concatenate([trained, np.array(seen["judged"])])
    assert len(seen["judged"]) == judged
    assert len(np.unique(together, axis=0)) == len(together) == users
    assert together.max() < 1e3  # none of the rows in front of the catalogue's users


def test_what_is_excluded_for_a_user_is_not_a_miss(monkeypatch):
    """The best movies are excluded from both stages; what counts is that the first finds the others."""
    monkeypatch.setattr(source, "CANDIDATES", 12)
    cut = synthetic(users=60, movies=400)
    users = range(FIRST, len(cut.users))
    whole = fit_retrieval(cut, users, 0)
    assert whole.recall < 1
    found = fit_retrieval(cut, users, 0, rated=lambda user: np.arange(388))  # as many are left as are looked at
    np.testing.assert_array_equal(found.vectors, whole.vectors)
    assert found.recall == 1
    assert fit_retrieval(cut, users, 0, rated=lambda user: np.arange(391)).recall == 1  # nine are left


def test_the_lower_recall_of_known_people_and_strangers_counts(monkeypatch):
    monkeypatch.setattr(source, "CANDIDATES", 12)
    cut = synthetic(users=60, movies=400)
    users = range(FIRST, len(cut.users))
    known = fit_retrieval(cut, users, 0).recall
    nothing = np.empty(0, np.int64)
    odd = [(-40 * cut.users[FIRST : FIRST + 1], nothing)]  # unlike anyone that the towers were trained on
    assert fit_retrieval(cut, users, 0, strangers=odd).recall <= known
    easy = [(cut.users[FIRST : FIRST + 1], np.arange(395))]  # five are left
    assert fit_retrieval(cut, users, 0, strangers=easy).recall == known


@pytest.mark.parametrize("users", [1, 2])
def test_very_few_users_are_enough(users):
    found = fitted(synthetic(users, movies=30))
    assert found.recall == 1
    assert np.isfinite(found.vectors).all()


@pytest.mark.parametrize("movies", [1, 2, 9, 10, 64, 130])
def test_where_all_movies_are_candidates_none_is_missed(movies):
    found = fitted(synthetic(users=8, movies=movies))
    assert movies <= source.CANDIDATES
    assert found.recall == 1
    assert found.vectors.shape == (movies, source.DIM)
    assert np.isfinite(found.vectors).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 40), st.integers(1, 200), st.integers(1, 250), st.integers(0, 2**32 - 1))
def test_recall_is_a_share(users, movies, candidates, seed):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(source, "STEPS", 2)
        patched.setattr(source, "CANDIDATES", candidates)
        found = fitted(synthetic(users, movies, seed=seed), seed=seed % 1000)
    assert 0 <= found.recall <= 1
    assert found.recall == 1 or candidates < movies


def test_a_network_that_the_towers_get_wrong_has_no_recall(monkeypatch):
    """Untrained towers know nothing: of 2,000 movies, the ten that are best are among twenty by chance alone."""
    monkeypatch.setattr(source, "STEPS", 0)
    monkeypatch.setattr(source, "CANDIDATES", 20)
    assert fitted(synthetic(users=50, movies=2_000)).recall < 0.3


def test_the_same_seed_finds_the_same_and_the_global_generator_is_left_alone():
    cut = synthetic(users=20, movies=50)
    before = torch.random.get_rng_state()
    first, again, other = (fitted(cut, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert first.recall == again.recall
    for one, two in zip(first.query.parameters(), again.query.parameters()):
        assert torch.equal(one, two)
    assert not np.allclose(first.vectors, other.vectors)


def test_the_cut_stays_as_it_is():
    cut, same = synthetic(users=20, movies=50), synthetic(users=20, movies=50)
    fitted(cut)
    for name in ("users", "vectors", "hidden"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(same, name))


def test_what_all_agree_on_is_learned(monkeypatch):
    monkeypatch.setattr(source, "CANDIDATES", 20)
    assert fitted(synthetic(users=100, movies=1_000, head=ByIndex())).recall == 1


def test_a_query_is_one_product_per_movie():
    tower = Tower(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)))
    user, movies = torch.ones(1, 4), torch.randn(9, source.DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = Query(tower)(user, movies)
        expected = [float(movie @ tower(user)[0]) for movie in movies]
    assert found.shape == (9,)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_column_that_is_the_same_for_all_does_no_harm():
    """As the embedding of a detail that the whole dataset shares."""
    rows = torch.ones(5, 3)
    with torch.no_grad():
        assert Tower(rows)(rows).isfinite().all()
