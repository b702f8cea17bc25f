"""What no honest pipeline can do: find something in noise. And what nothing may depend on: the numbers that ids are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.run_folder import Run
from models.baselines.base import BASELINES, TrainingData
from models.data.interactions import Interactions
from models.data.load import load_features
from models.evaluation.evaluate import trained_scorer
from models.evaluation.judgement import scorer_of
from models.evaluation.ranking import sampled_metrics
from models.networks.base import NetworkSettings, build
from models.networks.dlrm import DLRMSettings
from models.networks.ncf import NCFSettings
from models.protocols.base import PROTOCOLS
from models.registry import default_settings, fit_baseline
from models.training.loop import fit
from models.training.settings import TrainSettings
from tests.names import DEFAULT_PROTOCOLS, NETWORKS, RATING
from workflows.features.prepare import PrepareSettings, prepare
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables

USERS, MOVIES, RATED = 300, 200, 20
CPU = torch.device("cpu")
FEATURE_SETS = {
    "ids": ("ncf", NCFSettings(dim=8, top=(16,))),
    "ids, factorised": ("mf", NetworkSettings(dim=8)),
    "side tables": ("dlrm", DLRMSettings(dim=8, bottom=(8,), top=(16,))),
    "no user statistics": ("dlrm", DLRMSettings(dim=8, bottom=(8,), top=(16,), user_statistics=False)),
    "the history too": ("dlrm", DLRMSettings(dim=8, bottom=(8,), top=(16,), history=5)),
}


def write_noise(folder: Path, seed: int = 0) -> Path:
    """ML-1M's layout, users' details included: every user rates movies drawn uniformly, with stars drawn uniformly."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for user in range(1, USERS + 1):
        times = np.sort(rng.integers(900_000_000, 990_000_000, RATED))
        for movie, time in zip(rng.choice(MOVIES, RATED, replace=False) + 1, times):
            lines.append(f"{user}::{movie}::{rng.integers(1, 6)}::{time}")
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    genres = ("Action", "Comedy", "Drama")
    (folder / "movies.dat").write_text(
        "".join(f"{m}::Movie {m} ({1930 + m % 70})::{genres[rng.integers(3)]}\n" for m in range(1, MOVIES + 1))
    )
    ages = (1, 18, 25, 35, 45, 50, 56)
    (folder / "users.dat").write_text(
        "".join(
            f"{u}::{'MF'[rng.integers(2)]}::{ages[rng.integers(7)]}::{rng.integers(21)}::00000\n"
            for u in range(1, USERS + 1)
        )
    )
    return folder


def prepared(folder: Path, runs: Path) -> Run:
    run = Run(runs / "ml-1m")
    fetch_tables(get_dataset("ml-1m"), folder, run.tables, lambda _: None)
    for protocol in DEFAULT_PROTOCOLS:
        prepare(run, protocol, PrepareSettings(), lambda *_: None)
    return run


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("noise")
    return prepared(write_noise(folder / "raw"), folder / "runs")


def judged(run: Run, protocol: str, name: str, network: NetworkSettings) -> tuple[dict, dict]:
    """Test metrics and their intervals of a model after three epochs, chosen on validation as always."""
    features = load_features(run, protocol)
    chosen = TrainSettings(network=network, learning_rate=3e-3, averaging=0.9, batch_size=256, epochs=3)
    model = build(name, features, network, chosen.seed)
    fit(model, features, chosen, CPU)
    parts = PROTOCOLS[protocol].test(trained_scorer(model, features, ("train",), CPU), features, 0)
    return parts[0].means(), parts[0].intervals(0)


def wide(interval: list[float]) -> tuple[float, float]:
    """One interval in twenty misses; half as wide again, one in three hundred."""
    low, high = interval
    return low - (high - low) / 4, high + (high - low) / 4


@pytest.mark.parametrize("what", FEATURE_SETS)
def test_of_stars_that_are_noise_nothing_is_learnt(noise, what):
    metrics, intervals = judged(noise, "random-split", *FEATURE_SETS[what])
    low, high = wide(intervals["auc"])
    assert low < 0.5 < high, metrics
    assert high - low < 0.12


@pytest.mark.parametrize("what", FEATURE_SETS)
def test_of_movies_that_are_noise_nothing_is_learnt(noise, what):
    metrics, intervals = judged(noise, "leave-one-out", *FEATURE_SETS[what])
    low, high = wide(intervals["hr@10"])
    assert low < 0.1 < high, metrics
    assert high - low < 0.12
    low, high = wide(intervals["auc"])
    assert low < 0.5 < high, metrics


@pytest.mark.parametrize("what", FEATURE_SETS)
def test_of_stars_that_are_noise_the_best_guess_is_their_mean(noise, what):
    metrics, _ = judged(noise, RATING, *FEATURE_SETS[what])
    stars = load_features(noise, RATING).interactions("test").stars.numpy()
    assert metrics["rmse"] > stars.std() * 0.98


@pytest.mark.parametrize("key", [key for key, baseline in BASELINES.items() if baseline.name != "truth"])
def test_of_noise_no_baseline_learns_either(noise, key):
    task, name = key.split("/")
    protocol = {"ranking": "leave-one-out", "classification": "random-split", "rating": RATING}[task]
    features = load_features(noise, protocol)
    chosen = default_settings(protocol, name, "ml-100k", 0).settings
    scorer = fit_baseline(name, features, ("train", "valid"), chosen, 0)
    part = PROTOCOLS[protocol].test(scorer_of(scorer), features, 0)[0]
    if protocol == RATING:
        assert part.means()["rmse"] > features.interactions("test").stars.numpy().std() * 0.98
        return
    metric, guess = ("hr@10", 0.1) if protocol == "leave-one-out" else ("auc", 0.5)
    low, high = wide(part.intervals(0)[metric])
    assert low < guess < high


def relabelled(folder: Path, to: Path) -> Path:
    """The same ratings under other ids, in the same order: another ascending numbering of users and of movies."""
    to.mkdir()
    for name, columns in (("ratings.dat", (0, 1)), ("movies.dat", (0,)), ("users.dat", (0,))):
        lines = []
        for line in (folder / name).read_text().splitlines():
            cells = line.split("::")
            for column in columns:
                cells[column] = str(int(cells[column]) * 3 + 11)
            lines.append("::".join(cells))
        (to / name).write_text("\n".join(lines) + "\n")
    return to


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_other_ids_in_the_same_order_change_no_feature_and_no_weight(noise, tmp_path, protocol):
    raw = write_noise(tmp_path / "raw")
    run = prepared(relabelled(raw, tmp_path / "other"), tmp_path / "runs")
    one, other = (load_features(of, protocol) for of in (noise, run))
    for part in ("train", "valid", "test"):
        for column, same in zip(vars(one.interactions(part)).values(), vars(other.interactions(part)).values()):
            assert torch.equal(column, same)
    network = FEATURE_SETS["the history too"][1]
    results = [judged(of, protocol, "dlrm", network)[0] for of in (noise, run)]
    assert results[0] == results[1]


def interactions(user: np.ndarray, movie: np.ndarray, label: np.ndarray) -> Interactions:
    zeros = torch.zeros(len(user), dtype=torch.int32)
    values = torch.from_numpy(label.astype(np.float32))
    return Interactions(
        user=torch.from_numpy(user.astype(np.int32)),
        movie=torch.from_numpy(movie.astype(np.int32)),
        label=values,
        fold=zeros.to(torch.int8),
        later=zeros,
        not_before=zeros,
        stars=values,
    )


PERMUTED = {
    "ranking/popularity": {},
    "classification/biases": {},
    "ranking/ease": {"l2": 5.0},
    "ranking/itemknn": {"neighbours": 12, "weighting": "cosine"},
}


@pytest.mark.parametrize("key", PERMUTED)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_permutation_of_indices_permutes_a_baselines_scores_and_nothing_else(key, seed):
    rng = np.random.default_rng(seed)
    users, movies = 15, 12
    pairs = np.argwhere(rng.random((users - 3, movies - 3)) < 0.4) + 3
    if len(pairs) < 2:
        return
    label = rng.integers(0, 2, len(pairs))
    new_user, new_movie = (np.r_[:3, 3 + rng.permutation(n - 3)] for n in (users, movies))
    order = rng.permutation(len(pairs))
    baseline = BASELINES[key]
    chosen = baseline.settings(**PERMUTED[key])
    plain = baseline.fit(TrainingData(interactions(*pairs.T, label), users, movies), chosen, 0)
    shuffled = interactions(new_user[pairs[order, 0]], new_movie[pairs[order, 1]], label[order])
    permuted = baseline.fit(TrainingData(shuffled, users, movies), chosen, 0)
    user, movie = (grid.ravel() for grid in np.meshgrid(np.arange(users), np.arange(movies)))
    np.testing.assert_allclose(plain(user, movie), permuted(new_user[user], new_movie[movie]), rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    scores=arrays(np.float32, (7, 13), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    seed=st.integers(0, 2**32 - 1),
)
def test_metrics_do_not_depend_on_the_order_of_users_or_of_negatives(scores, seed):
    from models.data.interactions import Candidates

    rng = np.random.default_rng(seed)
    users, movies = np.arange(7), np.arange(1, 13)
    negatives = np.tile(movies, (7, 1))
    score = lambda user, movie: scores[user, movie]  # noqa: E731
    plain = sampled_metrics(score, Candidates(users, np.zeros(7, int), negatives, np.zeros(7, int))).means()
    order = rng.permutation(7)
    shuffled = np.stack([rng.permutation(movies) for _ in users])
    again = sampled_metrics(score, Candidates(users[order], np.zeros(7, int), shuffled, np.zeros(7, int))).means()
    assert plain == pytest.approx(again)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_with_permuted_embeddings_scores_permuted_ids_the_same(noise, name):
    features = load_features(noise, "random-split")
    networks = {"dlrm": FEATURE_SETS["the history too"][1], "ncf": NCFSettings(dim=8), "mf": NetworkSettings(dim=8)}
    network = networks[name]
    model = build(name, replace(features), network, 0).eval()
    rng = np.random.default_rng(0)
    new = torch.from_numpy(np.r_[:3, 3 + rng.permutation(features.movies - 3)])
    user = torch.arange(3, features.users)
    movie = torch.from_numpy(rng.integers(3, features.movies, len(user)))
    with torch.no_grad():
        before = model(user, movie)
        for table in (table for kind, table in model.embedding_tables() if kind in ("movie_id", "history")):
            weight = table.weight.clone()
            table.weight[new[: len(weight)]] = weight
        if name == "dlrm":
            for side in (model.movie_features, model.movie_statistics):
                axis = 0 if side.dim() == 2 else 1
                side.index_copy_(axis, new, side.clone())
            model.now_movies.copy_(new[model.now_movies])
        torch.testing.assert_close(model(user, new[movie]), before)
