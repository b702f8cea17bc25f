"""The serving logic on an exported repository, and the scores of the trained networks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifacts import read_manifest
from core.run_folder import Run
from ensemble.export.export import export
from ensemble.triton_models.ranking import Ranking
from ensemble.triton_models.recommendations import Recommendations
from ensemble.triton_models.scores import Scores
from ensemble.triton_models.similar_movies import SimilarMovies
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.training.train import load
from tests.names import COMPARED

UNKNOWN = (-1, 0, 2, 10**9, 2**62)  # no user (odd) and no movie (a multiple of ten from 10) has one of these ids
MOVIES = 120
NEVER_RATED = (1190, 1200)
LONG = pytest.param("x" * 10_000, id="long")
CLOSE = 1e-5  # what is served may be so far from what was evaluated


def folder_of(run: Run, model: str) -> Path:
    """Where the files of a Triton model lie that serve."""
    return run.repository / model / str(read_manifest(run.repository)["version"])


@pytest.fixture(scope="session", params=COMPARED)
def served(request, exported, tmp_path_factory) -> Run:
    """The run with its repository, once with DLRM and once with NCF as the default model."""
    run = Run(tmp_path_factory.mktemp("served") / exported.root.name)
    shutil.copytree(exported.root, run.root)
    export(run, "leave-one-out", request.param)
    return run


@pytest.fixture(scope="session")
def scores(exported) -> Scores:
    return Scores(folder_of(exported, "scorer"))


@pytest.fixture(scope="session")
def recommendations(served) -> Recommendations:
    return Recommendations(folder_of(served, "recommend"))


@pytest.fixture
def searching(served) -> Recommendations:
    """One whose settings a test may change."""
    return Recommendations(folder_of(served, "recommend"))


@pytest.fixture
def ranking(searching) -> Ranking:
    """Its default network."""
    return searching.rankings[searching.default_model]


@pytest.fixture(scope="session")
def similar(served) -> SimilarMovies:
    return SimilarMovies(folder_of(served, "similar"))


@pytest.fixture(scope="session")
def offline(exported) -> Callable[..., np.ndarray]:
    """Scores by the trained network of raw ids: `offline(model, user_ids, movie_ids)`."""
    features = load_features(exported, "leave-one-out")
    cpu = torch.device("cpu")
    score = {name: pair_scorer(load(exported, features, name, cpu)[0], cpu, "leave-one-out") for name in COMPARED}

    tables = {kind: vocabulary(exported, kind) for kind in ("user", "movie")}
    index = {kind: dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist())) for kind, table in tables.items()}

    def indices(kind: str, ids: np.ndarray) -> np.ndarray:
        return np.array([index[kind].get(raw, 2) for raw in ids.tolist()], np.int64)

    return lambda name, user, movie: score[name](indices("user", user), indices("movie", movie))


def vocabulary(run: Run, kind: str) -> pd.DataFrame:
    """Ids in the order of their indices."""
    return pd.read_parquet(run.features / "leave-one-out" / "vocabulary" / f"{kind}_id.parquet").sort_values("index")


def catalogue(run: Run) -> np.ndarray:
    return vocabulary(run, "movie")["movie_id"].to_numpy()


def ratings(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.tables / "ratings.parquet")


def rated_by(run: Run) -> dict[int, set[int]]:
    return ratings(run).groupby("userId")["movieId"].agg(set).to_dict()


def random_ids(run: Run, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Known and unknown ids, with repeats, in no order."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([pd.read_parquet(run.tables / "users.parquet")["userId"], UNKNOWN])
    movies = np.concatenate([pd.read_parquet(run.tables / "movies.parquet")["movieId"], UNKNOWN])
    return rng.choice(users, size), rng.choice(movies, size)


def same(first: tuple, second: tuple) -> None:
    """Two answers, to the last bit."""
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)
