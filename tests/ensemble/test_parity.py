"""What is served is what was trained: both runtimes, both models, over gRPC, to 1e-5."""

import numpy as np
import pytest

from ensemble import client
from ensemble.merlin_systems.server import score_merlin
from tests.names import COMPARED

pytestmark = pytest.mark.slow

BATCHES = {1: 100, 7: 60, 1000: 10}  # requests of each size: 10,520 pairs
RUNTIMES = ("marquee", "merlin")


@pytest.fixture(scope="module")
def ask(server, reference_server):
    """A function of runtime, model, users and movies to scores."""

    def marquee(model, user, movie):
        return client.score(server.url, user, movie, model)[0]

    def merlin(model, user, movie):
        return score_merlin(reference_server.url, model, user, movie)

    return lambda runtime, *question: {"marquee": marquee, "merlin": merlin}[runtime](*question)


@pytest.mark.parametrize("model", COMPARED)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ten_thousand_pairs_score_as_the_trained_network_says(ask, some_ids, offline, runtime, model):
    assert sum(size * count for size, count in BATCHES.items()) > 10_000
    for size, count in BATCHES.items():
        for seed in range(count):
            user, movie = some_ids(1000 * size + seed, size)
            found = ask(runtime, model, user, movie)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, offline(model, user, movie), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", COMPARED)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("user", "movie"),
    [([1], [10]), ([2], [10]), ([1], [11]), ([-1], [2**40]), ([5, 1, 5, 1], [90, 10, 90, 20]), ([1], [1200])],
    ids=["known", "unknown user", "unknown movie", "both unknown", "duplicate and unsorted", "never rated"],
)
def test_every_kind_of_id_is_scored(ask, offline, runtime, model, user, movie):
    found = ask(runtime, model, user, movie)
    np.testing.assert_allclose(found, offline(model, np.array(user), np.array(movie)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_two_models_score_differently(ask, runtime):
    users, movies = [1, 3, 5], [10, 20, 30]
    dlrm, ncf = (ask(runtime, model, users, movies) for model in COMPARED)
    assert np.abs(dlrm - ncf).max() > 1e-3
