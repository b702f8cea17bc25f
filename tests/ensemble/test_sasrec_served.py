"""SASRec beside DLRM, exported and served: it scores as it was trained, and reads the lists of people without an id."""

import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifacts import verify
from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from ensemble import client
from ensemble.client import Access
from ensemble.export import export as source
from ensemble.export.export import export
from ensemble.export.lists import list_reader
from ensemble.repository import releases
from ensemble.server.canary import Canary
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from ensemble.triton_models.recommendations import Recommendations
from ensemble.triton_models.scores import Scores
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.training.settings import settings_for
from models.training.train import load, train
from workflows.features.vocabulary import OUT_OF_VOCABULARY

pytestmark = pytest.mark.slow

PROTOCOL = "leave-one-out"
NAMES = ("dlrm", "sasrec")
CPU = torch.device("cpu")
HISTORY = 20  # shorter than what some people have rated


@pytest.fixture(scope="module")
def served(prepared, tmp_path_factory) -> Run:
    """A run with both networks trained for two epochs, exported."""
    run = Run(tmp_path_factory.mktemp("served") / prepared.root.name)
    shutil.copytree(prepared.root, run.root, ignore=shutil.ignore_patterns("models", "repository*"))
    for name in NAMES:
        network = {"history": HISTORY} if name == "sasrec" else {}
        settings = settings_for(PROTOCOL, name, epochs=2, batch_size=256, refit=True, network=network)
        train(run, PROTOCOL, name, settings, CPU, lambda *_: None)
    export(run, PROTOCOL, "dlrm")
    return run


@pytest.fixture(scope="module")
def index(served) -> Callable[[str], dict[int, int]]:
    """A function of `user` or `movie` to the indices of raw ids."""
    folder = load_features(served, PROTOCOL).folder / "vocabulary"

    def of(kind: str) -> dict[int, int]:
        table = pd.read_parquet(folder / f"{kind}_id.parquet")
        return dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist()))

    return of


@pytest.fixture(scope="module")
def sasrec(served):
    return load(served, load_features(served, PROTOCOL), "sasrec", CPU)[0]


@pytest.fixture(scope="module")
def recommendations(served) -> Recommendations:
    return Recommendations(served.repository / "recommend" / "1")


@pytest.fixture(scope="module")
def server(served, tmp_path_factory):
    with running(served.repository, tmp_path_factory.mktemp("triton") / "triton.log", Ports(free_port())) as one:
        yield one


def test_the_repository_has_what_serves_it(served):
    manifest = verify(served.repository)
    assert manifest["networks"].keys() == set(NAMES)
    files = {name for name in manifest["files"] if name.startswith("recommend/1/")}
    assert {"recommend/1/sasrec.encoder.onnx", "recommend/1/dlrm.newcomers.npz"} <= files
    assert not {"recommend/1/dlrm.encoder.onnx", "recommend/1/sasrec.newcomers.npz"} & files
    assert read_json(served.repository / "scorer" / "1" / "serving.json")["models"] == list(NAMES)
    card = (served.repository / "MODEL_CARD.md").read_text()
    assert "dlrm, sasrec, trained with Marquee" in card
    assert "**sasrec**: seed" in card


def test_another_encoder_is_noticed(served, tmp_path):
    shutil.copytree(served.repository, tmp_path / "repository")
    encoder = tmp_path / "repository" / "recommend" / "1" / "sasrec.encoder.onnx"
    encoder.write_bytes(encoder.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"sasrec\.encoder\.onnx"):
        verify(tmp_path / "repository")


def test_pairs_score_as_the_trained_network_says(served, sasrec, index, server):
    users, movies = index("user"), index("movie")
    rng = np.random.default_rng(0)
    user, movie = (rng.choice([*of, -1, 2**40], 500) for of in (users, movies))
    expected = pair_scorer(sasrec, CPU, PROTOCOL)(
        *(np.array([of.get(one, OUT_OF_VOCABULARY) for one in raw]) for of, raw in ((users, user), (movies, movie)))
    )
    assert expected.std() > 1e-3
    found, _ = Scores(served.repository / "scorer" / "1").score(user, movie, "sasrec")
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    over_grpc = client.score(server.url, user.tolist(), movie.tolist(), "sasrec")[0]
    np.testing.assert_allclose(over_grpc, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 2, HISTORY - 1, HISTORY, HISTORY + 1, 100])
def test_a_list_is_answered_as_the_trained_network_says(sasrec, index, recommendations, server, length):
    """One of the movies is in no table: it is passed over."""
    movies = index("movie")
    history = np.random.default_rng(length).choice(list(movies), length, replace=False)
    left = np.array([one for one in movies if one not in set(history.tolist())])
    asked = np.append(history, 2**40)
    expected = list_reader(sasrec, CPU, PROTOCOL)(
        np.array([movies[one] for one in history]), np.array([movies[one] for one in left])
    )
    best = np.argsort(-expected, kind="stable")[:10]
    found, score, known = recommendations.recommend(None, 10, asked, "exact", "sasrec")
    assert known
    np.testing.assert_allclose(score, expected[best], atol=1e-5, rtol=0)
    np.testing.assert_allclose(dict(zip(left, expected))[found[0]], expected.max(), atol=1e-5)
    over_grpc = client.recommend(server.url, None, 10, history=asked.tolist(), model="sasrec", strategy="exact")
    np.testing.assert_allclose(over_grpc[1], expected[best], atol=1e-5, rtol=0)
    assert len(expected) < 12 or np.ptp(expected) > 1e-4


def test_who_lists_what_a_user_has_rated_is_answered_as_the_user(served, recommendations):
    """In the order of time, without the test movie, which the network has not seen either."""
    ratings = pd.read_parquet(served.tables / "ratings.parquet").sort_values(["userId", "timestamp"], kind="stable")
    for user in (1, 7, 59):
        seen = ratings[ratings["userId"] == user]["movieId"].to_numpy().astype(np.int64)
        own = dict(zip(*recommendations.recommend(user, 1000, strategy="exact", model="sasrec")[:2]))
        found = dict(zip(*recommendations.recommend(None, 1000, seen[:-1], "exact", "sasrec")[:2]))
        assert set(found) - set(own) == {seen[-1]}
        np.testing.assert_allclose([found[one] for one in own], list(own.values()), atol=1e-5)


def test_the_order_of_a_list_counts_for_sasrec_and_its_repeats_do_not(recommendations):
    """The first listed, the last listed, and both twice."""

    def scores(history: list[int]) -> np.ndarray:
        movies, found, _ = recommendations.recommend(None, 1000, np.array(history), "exact", "sasrec")
        return found[np.argsort(movies)]

    assert np.abs(scores([10, 20, 30]) - scores([30, 20, 10])).max() > 1e-6
    np.testing.assert_array_equal(scores([10, 20, 30]), scores([30, 10, 20, 30]))
    np.testing.assert_array_equal(scores([20, 30, 10]), scores([10, 20, 30, 10]))


def test_the_sample_holds_answers_to_lists_and_a_server_is_held_to_them(served, server, tmp_path):
    canary = Canary(releases.take(served.repository, tmp_path / "release"))
    catalogue = len(Scores(served.repository / "scorer" / "1").movies.ids)
    assert [row["model"] for row in canary.sample["listed"]] == ["sasrec"] * 4
    assert [len(row["history"]) for row in canary.sample["listed"]] == [1, 2, 50, catalogue]
    canary.check_sample(server.url, Access())
    row = canary.sample["listed"][1]
    row["score"] = [score + 1e-3 for score in row["score"]]
    with pytest.raises(UserError, match=r"recommend by sasrec scores a list's movies up to 1.0e-03 away"):
        canary.check_sample(server.url, Access())


def test_a_sample_of_an_earlier_version_has_no_lists(served, server, tmp_path):
    canary = Canary(releases.take(served.repository, tmp_path / "release"))
    del canary.sample["listed"]
    canary.check_sample(server.url, Access())


def test_an_encoder_that_reads_otherwise_is_not_exported(served, tmp_path, monkeypatch):
    run = Run(tmp_path / served.root.name)
    shutil.copytree(served.root, run.root, ignore=shutil.ignore_patterns("repository"))

    def wrong(encoder, path) -> None:
        with torch.no_grad():
            encoder.network.encoder.norm.bias.add_(0.5)
        real(encoder, path)
        with torch.no_grad():
            encoder.network.encoder.norm.bias.sub_(0.5)

    real = source.write_encoder
    monkeypatch.setattr(source, "write_encoder", wrong)
    with pytest.raises(UserError, match="the exported sasrec's recommendations for lists score up to") as refused:
        export(run, PROTOCOL, None)
    assert "\n" not in str(refused.value)
    assert not run.repository.exists()


def test_merlin_s_own_runtime_scores_it_too(served):
    """Held against the trained network before it is written."""
    from ensemble.merlin_systems.export import export_merlin

    assert export_merlin(served, PROTOCOL, ("sasrec",))["models"] == ["sasrec"]
