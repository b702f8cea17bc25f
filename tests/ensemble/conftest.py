"""Real Triton servers on what the shared run exports, and the trained networks' scores to compare them with."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pandas as pd
import psutil
import pytest

from core.json_files import read_json
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from ensemble.triton_models.recommendations import Recommendations
from ensemble.triton_models.scores import Scores
from tests.names import COMPARED, HANG_SECONDS

PROTOCOL = "leave-one-out"
UNKNOWN = [-1, 0, 2, 2**40]  # the synthetic users are odd and the movies tens; 0 is not a movie either


@pytest.fixture(scope="session")
def offline(trained) -> Callable[[str, np.ndarray, np.ndarray], np.ndarray]:
    """The trained networks: a function of a model's name and raw ids, by the vocabulary files."""
    import torch

    from models.data.load import load_features
    from models.evaluation.scorers import pair_scorer
    from models.training.train import load

    features = load_features(trained, PROTOCOL)
    cpu = torch.device("cpu")
    networks = {name: pair_scorer(load(trained, features, name, cpu)[0], cpu, PROTOCOL) for name in COMPARED}
    places = {}
    for name in ("user_id", "movie_id"):
        table = pd.read_parquet(features.folder / "vocabulary" / f"{name}.parquet")
        places[name] = dict(zip(table[name].tolist(), table["index"].tolist()))

    def score(model: str, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        users, movies = (
            np.array([places[name].get(one, 2) for one in raw.tolist()], np.int64)
            for name, raw in (("user_id", user), ("movie_id", movie))
        )
        return networks[model](users, movies)

    return score


@pytest.fixture(scope="session")
def some_ids(trained) -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
    """A function of a seed and a size: users and movies, known and unknown, with repeats, in no order."""
    everyone = [
        np.append(pd.read_parquet(trained.tables / f"{table}.parquet")[column], UNKNOWN)
        for table, column in (("users", "userId"), ("movies", "movieId"))
    ]

    def draw(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return rng.choice(everyone[0], size), rng.choice(everyone[1], size)

    return draw


@pytest.fixture(scope="session")
def version(exported) -> str:
    """The version that serves."""
    return str(read_json(exported.repository / "manifest.json")["version"])


@pytest.fixture(scope="session")
def scores(exported, version) -> Scores:
    return Scores(exported.repository / "scorer" / version)


@pytest.fixture(scope="session")
def recommendations(exported, version) -> Recommendations:
    return Recommendations(exported.repository / "recommend" / version)


@pytest.fixture(scope="session")
def server(exported, tmp_path_factory):
    """One server for all tests; none of them may leave it unable to answer."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    with running(exported.repository, log, Ports(free_port())) as running_server:
        yield running_server


@pytest.fixture(scope="session")
def reference():
    """`ensemble.merlin_systems.export`, imported when it is needed: Merlin takes its time."""
    from ensemble.merlin_systems import export

    return export


@pytest.fixture(scope="session")
def referenced(reference, trained):
    """The shared run with Merlin's repository."""
    reference.export_merlin(trained, PROTOCOL, COMPARED)
    return trained


@pytest.fixture(scope="session")
def reference_server(referenced, tmp_path_factory):
    """One server of Merlin's runtime for all tests; when it has stopped, nothing of it is left."""
    from ensemble.merlin_systems.server import running_merlin

    folder = tmp_path_factory.mktemp("triton")
    with ExitStack() as until_stopped:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tempfile.tempdir", str(folder))
            running_server = until_stopped.enter_context(
                running_merlin(referenced.reference_repository, folder / "triton.log", free_port(), COMPARED)
            )
        yield running_server
        started = psutil.Process(running_server.process.pid).children(recursive=True)
        assert len(started) == 2 * len(COMPARED) + 1  # an executor and a network for each, and the workflow
    assert running_server.process.poll() is not None
    deadline = time.monotonic() + HANG_SECONDS
    while (left := [process for process in started if process.is_running()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert not list(folder.glob("marquee-triton-*"))
