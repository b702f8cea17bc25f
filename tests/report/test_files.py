"""A run's files are read as pictures need them."""

import re
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest

from core.artifacts import seal
from core.errors import UserError
from core.run_folder import Run
from models.evaluation.kept import FULL_CATALOGUE, LISTS, ROWS, SAMPLED
from report.files import RunFiles
from report.judged import without_kept
from report.picture import PICTURES
from tests.report.made_run import ORIGIN, made_run
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


# -- what evaluate has kept --------------------------------------------------------------------------------------------


def reseal(folder: Path, fingerprint: str) -> None:
    (folder / "manifest.json").unlink()
    seal(folder, fingerprint)


def of_another_evaluation(run: Run) -> None:
    reseal(run.judged, "1" * 64)


def trained_again(run: Run) -> None:
    (run.model("leave-one-out", "ncf") / "history.json").write_text("[]")
    reseal(run.model("leave-one-out", "ncf"), ORIGIN)


def removed(run: Run) -> None:
    rmtree(run.model("random-split", "mf"))


def changed(run: Run) -> None:
    run.evaluation.write_text(run.evaluation.read_text() + "\n")


STALE = {
    of_another_evaluation: r"evaluation and .*evaluation\.json are of two evaluations",
    trained_again: r"leave-one-out/ncf has changed since .*evaluation\.json was written",
    removed: r"random-split/mf has changed since .*evaluation\.json was written",
    changed: r"evaluation\.json was changed since evaluate wrote it",
}


@pytest.mark.parametrize("part", [SAMPLED, FULL_CATALOGUE, LISTS, ROWS])
def test_what_is_kept_is_read_by_the_names_that_it_is_written_by(tmp_path, part):
    run = made_run(tmp_path)
    protocol = "random-split" if part == ROWS else "leave-one-out"
    assert len(RunFiles(run).kept(protocol, "dlrm", part))


@pytest.mark.parametrize("change", STALE)
def test_what_is_kept_of_other_models_or_results_is_said_to_be_stale_and_never_drawn(tmp_path, change):
    run = made_run(tmp_path)
    assert without_kept(RunFiles(run), "leave-one-out", SAMPLED, networks=2) == ""
    change(run)
    files = RunFiles(run)
    message = rf"{STALE[change]}; run again: python -m marquee evaluate --dataset ml-latest-small --runs \S+$"
    with pytest.raises(UserError, match=message):
        files.kept("leave-one-out", "dlrm", SAMPLED)
    for name in ("cut-offs-leave-one-out", "paired-random-split", "overlap-leave-one-out", "reliability-random-split"):
        assert re.search(message, PICTURES[name].lacking(files)), name
        with pytest.raises(UserError, match=message):
            PICTURES[name].draw(files)
