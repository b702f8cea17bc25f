"""A small made-up MovieLens, and a run over it, shared by the tests. No rating of MovieLens' own is used here."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the command line does; threads on busy cores wait for each other

GENRES = ("Action", "Comedy", "Drama", "Film-Noir", "Sci-Fi")
LONG_FILES = (
    "test_notebooks.py",
    "marquee/test_cli.py",
    "test_extending.py",
    "test_real_data.py",
    "ensemble/server/test_rollout.py",
    "models/training/test_several.py",
    "ensemble/test_parity.py",
    "ensemble/front_door/test_real_triton.py",
    "models/evaluation/test_compare_seeds.py",
    "models/evaluation/test_share_of_truth.py",
    "models/evaluation/test_evaluate.py",
    "models/tensorflow/test_command.py",
    "models/tensorflow/test_twins.py",
    "models/networks/test_contract.py",
    "core/test_gpu.py",
    "marquee/test_output.py",
    "test_bench_serving.py",
    "test_storm.py",
    "test_kill.py",
    "test_setup_uv.py",
    "dashboard/browser/test_careless.py",
    "report/browser/test_report.py",
)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def write_movielens(folder: Path, users: int = 60, movies: int = 120, seed: int = 0) -> Path:
    """Writes `ratings.csv` and `movies.csv` in MovieLens' CSV layout, from a two-dimensional taste model.

    User ids are 1, 3, 5, ...; movie ids are 10, 20, 30, ...; the last two movies have no rating. Every user rates 20 to
    40 movies, in half stars, preferring those that fit; timestamps rise, with ties.
    """
    rng = np.random.default_rng(seed)
    taste, style = rng.normal(size=(users, 2)), rng.normal(size=(movies, 2))
    fit = taste @ style.T + rng.normal(scale=0.3, size=(users, movies))
    fit[:, -2:] = -np.inf
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(users):
        weight = np.exp(fit[user] - fit[user].max())
        rated = rng.choice(movies, rng.integers(20, 41), replace=False, p=weight / weight.sum())
        time = 1_000_000_000 + user * 1000
        for movie in rated:
            time += int(rng.integers(0, 3))
            stars = np.clip(np.round((3.5 + fit[user, movie]) * 2) / 2, 0.5, 5)
            lines.append(f"{2 * user + 1},{10 * (movie + 1)},{stars},{time}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    titles = ["movieId,title,genres"]
    for movie in range(movies):
        genres = (
            "|".join(sorted(rng.choice(GENRES, rng.integers(1, 4), replace=False))) if movie else "(no genres listed)"
        )
        year = f" ({1950 + movie % 70})" if movie != 1 else ""
        titles.append(f'{10 * (movie + 1)},"Movie, The {movie}{year}",{genres}')
    (folder / "movies.csv").write_text("\n".join(titles) + "\n")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes come first, so that no process is left alone with one of them at the end."""
    root = Path(__file__).parent
    places = {root / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the made-up dataset, not to be changed."""
    return write_movielens(tmp_path_factory.mktemp("movielens"))


@pytest.fixture(scope="session")
def prepared(movielens: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run folder with tables and features, not to be changed."""
    from core.run_folder import Run
    from tests.names import DEFAULT_PROTOCOLS
    from workflows.features.prepare import PrepareSettings, prepare
    from workflows.sources.datasets import get_dataset
    from workflows.sources.fetch import fetch_tables

    run = Run(tmp_path_factory.mktemp("runs") / "ml-latest-small")
    fetch_tables(get_dataset("ml-latest-small"), movielens, run.tables, lambda _: None)
    for protocol in DEFAULT_PROTOCOLS:
        prepare(run, protocol, PrepareSettings(), lambda *_: None)
    return run


@pytest.fixture(scope="session")
def trained(prepared):
    """The same run with all six models trained for two epochs; leave-one-out's then on validation rows too."""
    import torch

    from models.training.settings import settings_for
    from models.training.train import train
    from tests.names import DEFAULT_PROTOCOLS, NETWORKS

    for protocol in DEFAULT_PROTOCOLS:
        for name in NETWORKS:
            refit = protocol == "leave-one-out"
            # two epochs teach more with negatives of each positive's own
            changes = {"shared_negatives": 0, "schedule": "constant"}
            settings = settings_for(protocol, name, epochs=2, batch_size=256, refit=refit, **changes)
            train(prepared, protocol, name, settings, torch.device("cpu"), lambda *_: None)
    return prepared


@pytest.fixture(scope="session")
def exported(trained):
    """The same run with its Triton repository."""
    from ensemble.export.export import export

    export(trained, "leave-one-out", None)
    return trained


@pytest.fixture
def shared_data() -> Path:
    """Real MovieLens copies beside the checkout; a test that needs them is skipped where there are none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs copies of real MovieLens data beside the checkout, which may not be redistributed")
    return SHARED_DATA


@pytest.fixture(scope="session")
def chromium():
    """Debian's chromium, for whatever is opened in a browser: one, as Playwright runs once in a process."""
    from tests.dashboard.browser.running import CHROMIUM

    if not os.path.exists(CHROMIUM):
        pytest.skip(f"needs Debian's chromium at {CHROMIUM}; `make debian` installs it")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the page's environment; see `make test`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
