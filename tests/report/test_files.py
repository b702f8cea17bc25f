"""A run's files are read as pictures need them."""

import numpy as np
import pytest

from core.errors import UserError
from core.run_folder import Run
from report.files import RunFiles
from tests.report.small_runs import add_network, files_of


def test_stars_are_counted_by_movie_and_value(tmp_path):
    files = files_of(tmp_path)
    assert files.stars.columns.tolist() == [1, 2, 3, 4, 5]
    assert files.stars.to_numpy().tolist() == [
        [1, 0, 0, 0, 2],
        [0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def test_stars_are_those_of_every_rating(tmp_path):
    rng = np.random.default_rng(0)
    ratings = [
        (user, movie, rng.integers(1, 11) / 2, "2000-01-01") for user in range(20) for movie in range(10, 60, 10)
    ]
    files = files_of(tmp_path, ratings)
    counted = files.ratings.groupby(["movieId", "rating"]).size().unstack(fill_value=0)
    assert files.stars.to_numpy().tolist() == counted.to_numpy().tolist()


def test_genres_are_those_of_every_movie(tmp_path):
    genres = files_of(tmp_path).genres
    assert genres.columns.tolist() == ["Comedy", "Drama", "Western"]
    assert genres.to_numpy().tolist() == [
        [True, True, False],
        [False, True, False],
        [True, False, False],
        [False, False, False],
        [False, False, True],
    ]


def test_without_genres_there_are_no_columns(tmp_path):
    assert files_of(tmp_path, movies=[(10 * movie, "A", 0, []) for movie in range(1, 6)]).genres.shape == (5, 0)


def test_a_history_has_a_row_for_each_epoch_and_nan_for_what_is_undefined(tmp_path):
    files = files_of(tmp_path)
    add_network(files, "random-split", "dlrm", [{"auc": None}, {"auc": 1}], best_epoch=2, monitor="auc")
    history = files.history("random-split", "dlrm")
    assert history.index.tolist() == [1, 2]
    assert history["auc"].dtype == np.float64
    assert history["auc"].isna().tolist() == [True, False]
    assert files.config("random-split", "dlrm")["best_epoch"] == 2


def test_missing_tables_are_an_error_that_names_the_command(tmp_path):
    files = RunFiles(Run(tmp_path / "ml-100k"))
    for name in ("ratings", "movies", "stars", "genres"):
        with pytest.raises(UserError, match="parquet is missing; run: python -m marquee fetch"):
            getattr(files, name)
