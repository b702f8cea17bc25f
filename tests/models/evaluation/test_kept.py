"""What `evaluate` keeps: by hand, and against the metrics of `evaluation.json`."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from models.data.interactions import Candidates
from models.data.load import load_features
from models.evaluation import kept_files
from models.evaluation.evaluate import evaluate, judged
from models.evaluation.judgement import Asked, Scorer, judge_rows, judge_split, scorer_of
from models.evaluation.kept import best_columns, scored_rows, standing
from models.evaluation.metrics.ranking import ranking
from models.evaluation.ranking import sampled_metrics
from models.evaluation.results import made_from, read_results, write_results
from models.protocols.base import PROTOCOLS
from models.registry import baselines_for, fit_baseline
from tests.contracts.kept import assert_kept, metrics_of_files
from tests.models.evaluation.test_judgement import (
    FIRST,
    RATED,
    USERS,
    as_noise,
    constant,
    features_in,
    interactions,
    low_numbers_first,
    questions,
)
from tests.models.ranked import among_all_movies
from tests.names import FOLDS, TEMPORAL
from tests.names import PROTOCOLS as STANDARD
from workflows.features.prepare import PrepareSettings, prepare

ASKED = (*STANDARD, TEMPORAL, FOLDS[0])

CPU = torch.device("cpu")


def quiet(*_: object) -> None:
    pass


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_sampled_ranks_by_hand():
    """Of 12 others, movie 20 has 0, 2 or 3 above it; the last user's scores are all the same. User 7 has 9 others."""
    lists = np.tile(np.r_[11:20, 21:24], (5, 1))
    lists[4, 9:] = -1
    asked = Candidates(np.array([3, 4, 5, 6, 7]), np.full(5, 20), lists, np.zeros(5, int))
    above = {3: 0, 4: 2, 5: 3, 6: 0, 7: 0}

    def score(user, movie):
        higher = (movie > 20) & (movie <= 20 + np.vectorize(above.get)(user))
        return np.where(user == 6, 0.5, np.where(higher, 2.0, np.where(movie == 20, 1.0, 0.0))).astype(np.float32)

    (kept,) = sampled_metrics(score, asked).kept
    assert kept.name == "sampled"
    assert kept.user.tolist() == [3, 4, 5, 6]
    assert kept.movie.tolist() == [20] * 4
    assert {name: column.tolist() for name, column in kept.columns.items()} == {
        "rank": [0, 2, 3, 12],
        "ties": [0, 0, 0, 12],
        "others": [12] * 4,
    }
    assert {column.dtype for column in kept.columns.values()} == {np.dtype(np.int32)}


def test_full_ranks_and_lists_by_hand(tmp_path):
    """User u has rated movies u + 1 to u + 3 before, and is held out movie u, of the movies 3 to 32."""
    full, lists = among_all_movies(low_numbers_first, features_in(tmp_path), questions(), 0).kept
    assert (full.name, lists.name) == ("full", "lists")
    assert full.user.tolist() == full.movie.tolist() == list(range(3, USERS))
    assert full.columns["rank"].tolist() == list(range(USERS - 3))
    assert full.columns["ties"].tolist() == [0] * (USERS - 3)
    assert full.columns["others"].tolist() == [RATED - 4] * (USERS - 3)
    assert lists.user.tolist() == np.repeat(np.arange(3, USERS), 10).tolist()
    assert lists.columns["place"].tolist() == list(range(10)) * (USERS - 3)
    assert lists.columns["place"].dtype == np.int8
    for user in range(3, USERS):
        expected = [movie for movie in range(FIRST, FIRST + RATED) if movie not in (user + 1, user + 2, user + 3)][:10]
        here = lists.user == user
        assert lists.movie[here].tolist() == expected
        assert lists.columns["score"][here].tolist() == [-float(movie) for movie in expected]


def test_equal_scores_are_listed_in_the_order_of_the_catalogue(tmp_path):
    full, lists = among_all_movies(constant, features_in(tmp_path), questions(), 0).kept
    assert full.columns["rank"].tolist() == full.columns["ties"].tolist() == full.columns["others"].tolist()
    assert lists.movie[lists.user == 3].tolist() == [3, *range(7, 16)]


@pytest.mark.parametrize("score", [low_numbers_first, as_noise(6), constant])
def test_what_is_kept_does_not_depend_on_how_many_pairs_are_scored_at_once(tmp_path, monkeypatch, score):
    features, asked = features_in(tmp_path), questions(20, padding=3)

    def tables() -> list:
        return [*sampled_metrics(score, asked).kept, *among_all_movies(score, features, asked, 0).kept]

    whole = tables()
    for pairs in (1, 2 * RATED + 1):
        monkeypatch.setattr("models.evaluation.ranking.PAIRS_AT_ONCE", pairs)
        for one, other in zip(whole, tables(), strict=True):
            assert one.name == other.name
            for name in ("user", "movie"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            for name, column in one.columns.items():
                np.testing.assert_array_equal(column, other.columns[name])
                assert column.dtype == other.columns[name].dtype


def test_where_no_user_is_left_the_tables_are_empty_and_keep_their_types(tmp_path):
    asked = Candidates(*[np.empty(0, np.int32)] * 2, np.empty((0, 12), np.int32), np.empty(0, np.int32))
    (sampled,) = sampled_metrics(constant, asked).kept
    full, lists = among_all_movies(constant, features_in(tmp_path), asked, 0).kept
    for table in (sampled, full):
        assert {name: (len(one), one.dtype) for name, one in table.columns.items()} == dict.fromkeys(
            ("rank", "ties", "others"), (0, np.dtype(np.int32))
        )
    assert len(lists.user) == len(lists.movie) == len(lists.columns["score"]) == 0
    assert (lists.columns["place"].dtype, lists.columns["score"].dtype) == (np.int8, np.float32)


def test_the_rows_of_a_split_are_kept_with_what_was_asked_and_answered():
    rows = interactions(np.array([3, 4, 3]), np.array([5, 6, 7]), np.array([1, 0, 1]))
    scores = np.array([0.5, 0.25, 0.75], np.float32)
    found = judge_split("classification", rows, rows.label.numpy(), scores)
    assert found.means() == judge_rows("classification", rows.label.numpy(), scores, np.array([0, 1, 0])).means()
    (kept,) = found.kept
    assert (kept.name, kept.has_times) == ("rows", True)
    assert (kept.user.tolist(), kept.movie.tolist()) == ([3, 4, 3], [5, 6, 7])
    assert (kept.columns["label"].tolist(), kept.columns["score"].tolist()) == ([1, 0, 1], [0.5, 0.25, 0.75])


# -- properties --------------------------------------------------------------------------------------------------------

FEW_VALUES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0])  # so that there are ties


@given(data=st.data(), width=st.integers(3, 12), users=st.integers(0, 5))
def test_best_columns_are_those_of_a_whole_stable_sort(data, width, users):
    scores = data.draw(arrays(np.float32, (users, width), elements=FEW_VALUES))
    allowed = data.draw(arrays(bool, (users, width)))
    allowed[:, :3] = True
    found = best_columns(scores, allowed, 3)
    assert found.shape == (users, 3)
    for row in range(users):
        columns = [column for column in range(width) if allowed[row, column]]
        assert found[row].tolist() == sorted(columns, key=lambda column: (-scores[row, column], column))[:3]


@given(data=st.data(), width=st.integers(1, 12), users=st.integers(0, 5))
def test_standing_counts_what_metrics_compare(data, width, users):
    positive = data.draw(arrays(np.float32, users, elements=FEW_VALUES))
    others = data.draw(arrays(np.float32, (users, width), elements=FEW_VALUES))
    valid = data.draw(arrays(bool, (users, width)))
    found = standing(ranking(positive, others, valid))
    for row in range(users):
        there = others[row][valid[row]]
        counts = {"rank": (there >= positive[row]).sum(), "ties": (there == positive[row]).sum(), "others": len(there)}
        assert {name: column[row] for name, column in found.items()} == counts


# -- against evaluation.json -------------------------------------------------------------------------------------------


def as_coarse_noise(users: int, movies: int) -> Scorer:
    """Probabilities with ties."""
    table = np.random.default_rng(9).integers(1, 10, (users, movies)).astype(np.float32) / 10

    def pairs(user, movie):
        return table[user, movie]

    return Scorer(
        lambda _: Asked(pairs), lambda rows: table[rows.user.numpy(), rows.movie.numpy()], is_probability=True
    )


@pytest.fixture(scope="module")
def more_prepared(prepared, tmp_path_factory) -> Run:
    """`prepared`, with the features of more protocols."""
    run = Run(tmp_path_factory.mktemp("more") / prepared.root.name)
    run.features.mkdir(parents=True)
    run.tables.symlink_to(prepared.tables)
    for protocol in ASKED:
        split = PROTOCOLS[protocol].split
        if prepared.features_of(split).is_dir():
            if not run.features_of(split).exists():
                run.features_of(split).symlink_to(prepared.features_of(split))
        else:
            prepare(run, split, PrepareSettings(), lambda *_: None)
    return run


@pytest.mark.parametrize("protocol", ASKED)
def test_every_metric_can_be_computed_from_the_kept_files(more_prepared, tmp_path, protocol):
    """Of every baseline, and of a scorer with many ties; with ids, times and lists that are the run's own."""
    features = load_features(more_prepared, protocol)
    scorers = {
        name: scorer_of(fit_baseline(name, features, ("train", "valid"), baseline.settings(), 1, more_prepared.tables))
        for name, baseline in baselines_for(protocol, 1000, more_prepared.tables).items()
    }
    for name, scorer in {**scorers, "coarse": as_coarse_noise(features.users, features.movies)}.items():
        result = judged(name, scorer, features, 11, None, tmp_path / name)
        assert_kept(more_prepared, tmp_path / name, result)


@pytest.mark.parametrize("protocol", ASKED)
def test_metrics_and_kept_files_are_of_the_same_scores(more_prepared, tmp_path, protocol):
    """Also where a model answers otherwise each time that it is asked."""
    features, rng = load_features(more_prepared, protocol), np.random.default_rng(4)

    def pairs(user, movie):
        return rng.random(len(user), np.float32)

    scorer = Scorer(lambda _: Asked(pairs), lambda rows: rng.random(len(rows), np.float32), is_probability=True)
    assert_kept(more_prepared, tmp_path / "kept", judged("restless", scorer, features, 11, None, tmp_path / "kept"))


def test_a_test_that_keeps_nothing_writes_nothing(prepared, tmp_path):
    features = load_features(prepared, "random-split")
    judged("coarse", as_coarse_noise(features.users, features.movies), features, 11, None)
    assert not any(tmp_path.iterdir())


def test_of_many_rows_some_are_drawn_the_same_of_every_model(prepared, tmp_path, monkeypatch):
    features = load_features(prepared, "random-split")
    rows = features.interactions("test")
    monkeypatch.setattr(kept_files, "MOST_ROWS", 100)
    scores = np.arange(len(rows), dtype=np.float32)
    found = {}
    for name, score, seed in (("one", scores, 1), ("other", -scores, 1), ("seeded", scores, 2)):
        part = judge_split("classification", rows, rows.label.numpy(), score, is_probability=False)
        kept_files.write_kept(tmp_path / name, [part], features, seed)
        found[name] = pq.read_table(tmp_path / name / "rows.parquet")
        assert len(found[name]) == 100
        assert int(found[name].schema.metadata[b"rows"]) == len(rows)
    one, other, seeded = (found[name].to_pandas() for name in ("one", "other", "seeded"))
    assert one["score"].tolist() == (-other["score"]).tolist()
    assert one["score"].is_monotonic_increasing
    assert set(one["score"]) != set(seeded["score"])
    kept = scored_rows(rows, rows.label.numpy(), scores)
    monkeypatch.setattr(kept_files, "MOST_ROWS", len(rows))
    kept_files.write_kept(tmp_path / "all", [part], features, 1)
    everything = pd.read_parquet(tmp_path / "all" / "rows.parquet")
    assert len(everything) == len(kept.user)
    drawn = everything.iloc[one["score"].astype(int)].reset_index(drop=True)
    pd.testing.assert_frame_equal(drawn.drop(columns="score"), one.drop(columns="score"))


def test_two_tables_of_one_name_are_refused(prepared, tmp_path):
    features = load_features(prepared, "random-split")
    rows = features.interactions("test")
    part = judge_split("classification", rows, rows.label.numpy(), rows.label.numpy())
    with pytest.raises(ValueError, match="two tables are called rows"):
        kept_files.write_kept(tmp_path / "twice", [part, part], features, 1)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Run:
    """A copy of the trained run, evaluated."""
    root = tmp_path_factory.mktemp("kept") / trained.root.name
    shutil.copytree(trained.root, root)
    evaluate(Run(root), CPU, quiet)
    return Run(root)


@pytest.fixture
def copy(run, tmp_path) -> Run:
    shutil.copytree(run.root, tmp_path / run.root.name)
    return Run(tmp_path / run.root.name)


def content(run: Run) -> dict[str, bytes]:
    """Every file of `evaluation/`."""
    files = (path for path in run.judged.rglob("*") if path.is_file())
    return {path.relative_to(run.judged).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_every_judged_model_is_kept_and_metrics_can_be_computed_from_it(run):
    results = read_results(run)
    assert {path.parent.relative_to(run.judged).as_posix() for path in run.judged.rglob("*.parquet")} == {
        f"{result.protocol}/{result.model}" for result in results
    }
    for result in results:
        assert_kept(run, run.kept(result.protocol, result.model), result)
    assert evaluate(run, CPU, quiet) is False


def lose_a_file(run: Run) -> None:
    (run.kept("leave-one-out", "dlrm") / "lists.parquet").unlink()


def change_a_file(run: Run) -> None:
    path = run.kept("random-split", "biases") / "rows.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def lose_a_model(run: Run) -> None:
    shutil.rmtree(run.kept("random-split", "popularity"))


def lose_all(run: Run) -> None:
    shutil.rmtree(run.judged)


def lose_the_manifest(run: Run) -> None:
    (run.judged / "manifest.json").unlink()


def take_another_s_manifest(run: Run) -> None:
    """The files are whole, but of another evaluation than `evaluation.json`."""
    manifest = read_json(run.judged / "manifest.json")
    (run.judged / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "of others"}))


def put_a_file_in_its_place(run: Run) -> None:
    shutil.rmtree(run.judged)
    run.judged.write_text("something else")


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm",
    [
        lose_a_file,
        change_a_file,
        lose_a_model,
        lose_all,
        lose_the_manifest,
        take_another_s_manifest,
        put_a_file_in_its_place,
    ],
)
def test_what_is_missing_or_changed_is_made_again_as_it_was(run, copy, harm):
    harm(copy)
    assert evaluate(copy, CPU, quiet) is True
    assert read_results(copy) == read_results(run)
    assert content(copy) == content(run)
    assert evaluate(copy, CPU, quiet) is False


@pytest.mark.slow
def test_an_evaluation_that_is_interrupted_leaves_what_was_there(run, copy):
    change_a_file(copy)
    before = content(copy)

    def interrupted(by: float, note: str) -> None:
        if note == "ncf, random-split":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(copy, CPU, interrupted)
    assert content(copy) == before
    assert not list(copy.root.glob(".*partial*"))
    assert evaluate(copy, CPU, quiet) is True
    assert content(copy) == content(run)


@pytest.mark.slow
def test_an_evaluation_that_ends_before_its_results_are_written_is_made_again(run, copy, monkeypatch):
    """As by a full disk: `evaluation/` is new then, and `evaluation.json` is not."""
    results = read_results(copy)
    write_results(copy, results[:1], "of another evaluation")

    def full(*_: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("models.evaluation.evaluate.write_results", full)
        with pytest.raises(UserError, match="full"):
            evaluate(copy, CPU, quiet)
    assert made_from(copy) == "of another evaluation"
    assert evaluate(copy, CPU, quiet) is True
    assert read_results(copy) == results
    assert content(copy) == content(run)


@pytest.mark.slow
def test_a_model_that_is_judged_no_more_is_kept_no_more(copy):
    shutil.rmtree(copy.model("random-split", "ncf"))
    assert evaluate(copy, CPU, quiet) is True
    assert not copy.kept("random-split", "ncf").exists()
    assert copy.kept("random-split", "dlrm").is_dir()


@pytest.mark.slow
def test_files_of_another_number_are_not_those_of_the_result(run):
    """The comparison sees a difference: another model's files have other metrics."""
    results = {(result.protocol, result.model): result for result in read_results(run)}
    found = metrics_of_files(run.kept("leave-one-out", "popularity"), "ranking")
    assert found["ndcg@10"] != pytest.approx(results["leave-one-out", "dlrm"].metrics["ndcg@10"], abs=1e-9)
