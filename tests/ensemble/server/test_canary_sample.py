"""The sample that a server's answers are held against covers every network, for `score` and for `recommend`."""

import pytest

from core.errors import UserError
from ensemble.client import Access
from ensemble.repository import releases
from ensemble.server.canary import Canary
from tests.names import COMPARED

pytestmark = pytest.mark.slow


@pytest.fixture
def canary(exported, tmp_path) -> Canary:
    return Canary(releases.take(exported.repository, tmp_path / "release"))


def test_a_server_agrees_with_its_own_sample(server, canary):
    canary.check_sample(server.url, Access())


@pytest.mark.parametrize("name", COMPARED)
def test_scores_of_any_network_are_noticed(server, canary, name):
    canary.sample["scores"][name][7] += 1e-3
    with pytest.raises(UserError, match=f"{name} scores up to 1.0e-03 away"):
        canary.check_sample(server.url, Access())


@pytest.mark.parametrize("name", COMPARED)
def test_recommendations_of_any_network_are_noticed(server, canary, name):
    row = next(row for row in canary.sample["recommend"] if row["model"] == name)
    kept = dict(row)
    row["score"] = [score + 1e-3 for score in row["score"]]
    with pytest.raises(UserError, match=f"recommend by {name} scores user .* up to 1.0e-03 away"):
        canary.check_sample(server.url, Access())
    row.update(kept, movie_id=[1200, *kept["movie_id"][1:]])
    with pytest.raises(UserError, match=f"recommend by {name} gives user .* other movies"):
        canary.check_sample(server.url, Access())
