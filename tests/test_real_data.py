"""Real MovieLens copies, where they lie beside the checkout: layouts are read whole, and the pipeline runs on them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.artifacts import verify
from core.columns import AGE, GENDER, GENRES, OCCUPATION, RATING, RAW_MOVIE, RAW_USER, YEAR
from tests.names import HANG_SECONDS
from workflows.sources.read import read_tables
from workflows.splits.base import TimeOrder
from workflows.splits.leave_one_out import leave_one_out

ROOT = Path(__file__).resolve().parents[1]


def lines(path):
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def test_the_csv_layout_is_read_whole(shared_data):
    folder = shared_data / "ml-latest-small"
    tables = read_tables(folder)
    assert len(tables.ratings) == lines(folder / "ratings.csv") - 1 == 100_836
    assert (len(tables.movies), len(tables.users), tables.repeated) == (9_742, 610, 0)
    toy_story = tables.movies.set_index(RAW_MOVIE).loc[1]
    assert (toy_story["title"], toy_story[YEAR]) == ("Toy Story", 1995)
    assert toy_story[GENRES] == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    assert (tables.movies[YEAR] == 0).sum() < 20
    assert set(np.unique(tables.ratings[RATING])) == set(np.arange(0.5, 5.5, 0.5))


@pytest.mark.slow
def test_the_double_colon_layout_is_read_whole(shared_data):
    folder = shared_data / "ml-1m-dev"
    tables = read_tables(folder)
    assert len(tables.ratings) == lines(folder / "ratings.dat")
    assert (len(tables.movies), len(tables.users)) == (3_883, 6_040)
    assert tables.users[[GENDER, AGE, OCCUPATION]].notna().all(axis=None)
    assert set(tables.users[AGE]) == {1, 18, 25, 35, 45, 50, 56}
    split = leave_one_out(TimeOrder.of(tables.ratings[RAW_USER].to_numpy(), tables.ratings["timestamp"].to_numpy()))
    assert len(split.rows("test")) == len(split.rows("valid")) == 6_040


@pytest.mark.slow
def test_the_whole_pipeline_on_real_ratings_beats_popularity(shared_data, tmp_path):
    command = [sys.executable, "-m", "marquee", "run", "--dataset", "ml-latest-small", "--epochs", "1"]
    command += ["--data", str(shared_data / "ml-latest-small"), "--runs", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert result.returncode == 0, result.stderr
    assert "recommended by Triton" in result.stdout
    run = tmp_path / "ml-latest-small"
    verify(run / "repository")
    results = {(r["model"], r["protocol"]): r["metrics"] for r in json.loads((run / "evaluation.json").read_text())}
    popularity = results["popularity", "leave-one-out"]["hr@10"]
    assert results["dlrm", "leave-one-out"]["hr@10"] > popularity
    assert results["dlrm", "random-split"]["auc"] > 0.7
