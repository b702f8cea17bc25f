"""A folder's name does not change which rows are written and read, whatever it means to Merlin, Dask or fsspec."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.run_folder import Run
from tests.names import DEFAULT_PROTOCOLS
from workflows.features.prepare import PrepareSettings, prepare
from workflows.splits.base import PARTS, read_split, split_files

COLUMNS = ["user_index", "movie_index", "rating", "timestamp", "label", "fold", "later"]
ALL_AT_ONCE = "runs [ab] a::b {a,b} *? file:x 100% #x='1' ~"
NAMES = ["runs [ab]", "a::b", "file:x", "*", "userId=7", "100%20", "a?b#c", "a\nb"]


def quiet(*_) -> None:
    pass


def prepared_in(prepared: Run, folder: Path) -> Run:
    """The same tables, prepared in that folder."""
    run = Run(folder / prepared.root.name)
    shutil.copytree(prepared.tables, run.tables)
    for split in DEFAULT_PROTOCOLS:
        prepare(run, split, PrepareSettings(), quiet)
    return run


def assert_equal(run: Run, expected: Run) -> None:
    from models.data.load import load_features

    for protocol in DEFAULT_PROTOCOLS:
        features, others = run.features_of(protocol), expected.features_of(protocol)
        for part in PARTS:
            assert read_split(features, part, COLUMNS).equals(read_split(others, part, COLUMNS))
            rows, of_others = (load_features(one, protocol).interactions(part) for one in (run, expected))
            assert np.array_equal(rows.user, of_others.user)
            assert np.array_equal(rows.stars, of_others.stars)
        for path in sorted((others / "side").iterdir()):
            pd.testing.assert_frame_equal(pd.read_parquet(features / "side" / path.name), pd.read_parquet(path))


def test_a_run_in_a_folder_of_any_name_is_the_same(prepared, tmp_path):
    (tmp_path / "runs a").mkdir()
    assert_equal(prepared_in(prepared, tmp_path / ALL_AT_ONCE), prepared)


def test_a_folder_beside_it_that_the_name_matches_is_not_read(prepared, tmp_path):
    """`runs [ab]` as a pattern is `runs a`, which holds other rows."""
    from models.data.load import load_features

    run, other = Run(tmp_path / "runs [ab]" / "ml"), Run(tmp_path / "runs a" / "ml")
    for one in (run, other):
        shutil.copytree(prepared.root, one.root)
    for part in PARTS:
        for path in split_files(other.features_of("random-split"), part):
            pd.read_parquet(path).head(3).to_parquet(path, index=False)
    for part in PARTS:
        expected = load_features(prepared, "random-split").interactions(part)
        found = load_features(run, "random-split").interactions(part)
        assert np.array_equal(found.user, expected.user)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_a_folder_of_an_odd_name_is_the_same(prepared, tmp_path, name):
    assert_equal(prepared_in(prepared, tmp_path / name), prepared)


@pytest.mark.slow
def test_a_run_below_a_working_directory_of_an_odd_name_is_the_same(prepared, tmp_path, monkeypatch):
    (tmp_path / "cwd [x]").mkdir()
    monkeypatch.chdir(tmp_path / "cwd [x]")
    assert_equal(prepared_in(prepared, Path("runs")), prepared)
