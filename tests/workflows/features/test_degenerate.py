"""Statistics that are the same for all, and run folders that are moved."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from core.run_folder import Run
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.statistics import fold_statistics
from workflows.features.vocabulary import FOLDS
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables


def sums(entities: int, ratings: int, stars: float = 3.7, seconds: float = 1_234_567_890.1) -> np.ndarray:
    """float64 [3, FOLDS, entities + 1]: each entity with the same sums, and one without a rating."""
    counts = np.full((FOLDS, entities), ratings / FOLDS)
    found = np.stack([counts, counts * stars, counts * seconds])
    return np.pad(found, ((0, 0), (0, 0), (1, 0)))


@pytest.mark.parametrize("entities", [1, 2, 7, 60, 6_040, 162_541])
@pytest.mark.parametrize("ratings", [5, 20, 35])
def test_equal_statistics_are_0(entities, ratings):
    np.testing.assert_array_equal(fold_statistics(sums(entities, ratings)), 0)


def test_a_small_true_spread_is_kept():
    by_fold = sums(1_000, 20)
    by_fold[2, :, 1:501] += 4 * 60.0  # seconds, a minute for each of the ratings of a fold
    times = fold_statistics(by_fold)[FOLDS, 1:, 2]
    np.testing.assert_allclose(times, np.repeat([1.0, -1.0], 500), atol=1e-4)


@pytest.mark.parametrize("users", [1, 40])
def test_users_with_equally_many_ratings_have_statistics_of_a_sensible_size(tmp_path, users):
    rng = np.random.default_rng(3)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, users + 1):
        movies = rng.choice(60, 20, replace=False)
        lines += [f"{user},{movie + 1},{rng.integers(1, 6)},{10**9 + time}" for time, movie in enumerate(movies)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "ratings.csv").write_text("\n".join(lines) + "\n")
    titles = [f"{movie},Movie {movie} (2000),Drama" for movie in range(1, 61)]
    (data / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")
    run = Run(tmp_path / "ml-latest-small")
    fetch_tables(get_dataset("ml-latest-small"), data, run.tables, lambda _: None)
    prepare(run, "random-split", PrepareSettings(), lambda *_: None)
    side = run.features / "random-split" / "side"
    for path in side.glob("*.parquet"):
        assert pd.read_parquet(path).drop(columns=["fold"], errors="ignore").abs().to_numpy().max() < 100, path.name


def test_what_is_read_later_names_no_folder_and_can_be_moved(prepared, tmp_path):
    from models.data.load import load_features

    root = str(prepared.root.parent).encode()
    for path in prepared.features.rglob("*"):
        if path.is_file() and path.suffix != ".pkl":  # NVTabular corrects its own paths when it loads
            content = path.read_bytes()
            assert root not in content, path
            assert b".partial-" not in content, path
            assert not re.search(rb"/(tmp|home|root)/", content), path
    moved = Run(tmp_path / "elsewhere" / prepared.root.name)
    shutil.copytree(prepared.root, moved.root)
    there, here = (load_features(run, "random-split").interactions("test") for run in (moved, prepared))
    assert there.movie.tolist() == here.movie.tolist()
