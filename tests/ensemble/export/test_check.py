"""What is exported scores as the trained networks do, or nothing is exported."""

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifacts import read_manifest
from core.json_files import read_json
from ensemble.export import export as source
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.networks.base import cut
from models.training.train import load
from tests.ensemble.export.conftest import PROTOCOL, fixed_recall, other_than, refusal, state, vocabulary
from tests.names import COMPARED


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("table", ["users", "vectors", "hidden"])
def test_a_network_that_scores_otherwise_is_not_exported(run, monkeypatch, name, table):
    """One table of one of the two models, a little off."""

    def wrong(model, users: int, movies: int):
        parts = cut(model, users, movies)
        if model.uses_features == (name == "dlrm"):
            getattr(parts, table)[:] += 0.1
        return parts

    monkeypatch.setattr(source, "cut", wrong)
    before = state(run)
    message = refusal(run, PROTOCOL, other_than(read_manifest(run.repository)["default_model"]))
    assert f"the exported {name} score up to" in message
    assert "nothing was exported" in message
    assert state(run) == before
    assert not list(run.root.glob(".repository*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_whose_scores_are_not_finite_is_not_exported(run, monkeypatch, value):
    def wrong(model, users: int, movies: int):
        parts = cut(model, users, movies)
        parts.users[5:] = value
        return parts

    monkeypatch.setattr(source, "cut", wrong)
    monkeypatch.setattr(source, "fit_retrieval", fixed_recall(1.0))
    (run.repository / "manifest.json").unlink()  # or the one that serves would be up to date
    assert "nothing was exported" in refusal(run, PROTOCOL, "dlrm")


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("default", COMPARED)
def test_recommendations_that_score_otherwise_are_not_exported(run, monkeypatch, name, default):
    """The network's head for pairs is right, the one for a single user is not, whether it is the default or not."""

    def wrong(model, users: int, movies: int):
        parts = cut(model, users, movies)
        if model.uses_features == (name == "dlrm"):
            bad = cut(model, users, movies).head
            with torch.no_grad():
                bad.offset = bad.offset + 1e-3
            object.__setattr__(parts.head, "for_one_user", bad.for_one_user)
        return parts

    monkeypatch.setattr(source, "cut", wrong)
    monkeypatch.setattr(source, "fit_retrieval", fixed_recall(1.0))
    (run.repository / "manifest.json").unlink()  # or the one that serves would be up to date
    before = state(run)
    assert f"the exported {name}'s recommendations score up to" in refusal(run, PROTOCOL, default)
    assert state(run) == before


def test_the_sample_is_what_the_trained_networks_score(exported):
    sample = read_json(exported.repository / "score" / "1" / "sample.json")
    features = load_features(exported, PROTOCOL)
    index = {
        kind: dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist()))
        for kind in ("user", "movie")
        for table in (vocabulary(exported, kind),)
    }
    user, movie = (
        np.array([index[kind].get(raw, 2) for raw in sample[f"{kind}_id"]], np.int64) for kind in ("user", "movie")
    )
    assert len(user) == len(movie) == 100
    assert -1 in sample["user_id"] + sample["movie_id"]
    cpu = torch.device("cpu")
    offline = {name: pair_scorer(load(exported, features, name, cpu)[0], cpu, PROTOCOL) for name in COMPARED}
    assert list(sample["scores"]) == list(COMPARED)
    for name in COMPARED:
        np.testing.assert_allclose(sample["scores"][name], offline[name](user, movie), atol=1e-6, rtol=0)
    rated = pd.read_parquet(exported.tables / "ratings.parquet").groupby("userId")["movieId"].agg(set)
    assert [row["model"] for row in sample["recommend"]] == [name for name in COMPARED for _ in range(3)]
    for row in sample["recommend"]:
        left = sorted(set(index["movie"]) - rated[row["user_id"]])
        one = np.full(len(left), index["user"][row["user_id"]])
        expected = offline[row["model"]](one, np.array([index["movie"][raw] for raw in left]))
        score = dict(zip(left, expected))
        assert len(row["movie_id"]) == 10
        np.testing.assert_allclose(row["score"], np.sort(expected)[::-1][:10], atol=1e-6, rtol=0)
        np.testing.assert_allclose(row["score"], [score[raw] for raw in row["movie_id"]], atol=1e-6, rtol=0)
