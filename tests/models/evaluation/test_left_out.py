"""Metrics that mean nothing: users and rows that no model can be judged by are left out, counted, and said."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from core.errors import UserError
from core.run_folder import Run
from marquee.app import main
from marquee.result_tables import comparison_tables
from models.data.interactions import Candidates
from models.data.load import load_features
from models.evaluation.judgement import Asked, PerUser, Scorer, judge_rows, left_out_and_undefined, undefined_in
from models.evaluation.metrics.base import RowStatistic
from models.evaluation.ranking import sampled_metrics
from models.evaluation.results import Result, read_results, write_results
from models.networks.base import build
from models.protocols.base import PROTOCOLS
from models.training.loop import fit, undefined_in_validation
from models.training.settings import settings_for
from tests.models.evaluation.test_judgement import features_in
from tests.models.ranked import among_all_movies

CPU = torch.device("cpu")


def printed(run: Run) -> str:
    console = Console(file=io.StringIO(), width=110)
    for table in comparison_tables(run):
        console.print(table)
    return console.file.getvalue()


# -- by hand -----------------------------------------------------------------------------------------------------------


def asked(unseen: dict[int, int]) -> Candidates:
    """Each user is asked about movie 50, among so many of the movies from 100 on."""
    users = np.array(list(unseen))
    lists = np.full((len(users), 12), -1)
    for row, count in enumerate(unseen.values()):
        lists[row, :count] = 100 + np.arange(count)
    return Candidates(users, np.full(len(users), 50), lists, np.zeros(len(users), int))


def above(counts: dict[int, int]):
    """So many of the movies from 100 on score above movie 50, by user."""
    return lambda user, movie: np.where(
        movie == 50, 0.5, np.where(movie - 100 < np.vectorize(counts.get)(user), 1.0, 0.0)
    ).astype(np.float32)


def test_a_user_with_fewer_than_ten_unseen_movies_is_left_out_by_hand():
    """Users 3 and 4 have 12 and 10 unseen movies, of which 2 and all 10 score above; user 5 has 9, user 6 none.

    HR@10 is the mean of 1 and 0; were users 5 and 6 counted, it would be 3 / 4. AUC: 10 of 12 and 0 of 10 are below.
    """
    found = sampled_metrics(above({3: 2, 4: 10, 5: 9, 6: 0}), asked({3: 12, 4: 10, 5: 9, 6: 0}))
    means = found.means()
    assert means["hr@10"] == 0.5
    assert means["ndcg@10"] == pytest.approx((1 / np.log2(4)) / 2)
    assert means["mrr@10"] == pytest.approx((1 / 3) / 2)
    assert means["auc"] == pytest.approx((10 / 12) / 2)
    assert (found.count, found.left_out, found.others) == (2, 2, (10, 12))
    assert found.undefined() == {}
    assert left_out_and_undefined([found]) == {"undefined": None, "left_out": {"test_users": 2}, "others": (10, 12)}


def test_a_user_who_has_rated_nearly_the_whole_catalogue_is_left_out_of_it_by_hand(tmp_path):
    """The catalogue has 30 movies, 3 to 32. User 3 has rated 21 of them, the held-out movie 3 too: 9 are left.

    User 4 has rated 20 with the held-out movie 4, so 10 are left, 23 to 32, and all of them score above: a miss.
    """
    import pandas as pd

    features = features_in(tmp_path)
    rows = [(3, movie) for movie in range(4, 24)] + [(4, movie) for movie in (3, *range(5, 23))]
    for part, chosen in (("train", rows), ("valid", [])):
        table = pd.DataFrame(chosen, columns=["user_index", "movie_index"]).astype("int32")
        table.to_parquet(tmp_path / part / "part_0.parquet", index=False)
    questions = Candidates(np.array([3, 4]), np.array([3, 4]), np.tile(np.arange(24, 30), (2, 1)), np.zeros(2, int))
    found = among_all_movies(lambda user, movie: movie.astype(np.float32), features, questions, 0)
    assert found.means() == {"full_hr@10": 0, "full_ndcg@10": 0, "full_mrr@10": 0}
    assert (found.count, found.left_out, found.counted_as) == (1, 1, "full_catalogue_users")
    assert found.intervals(0) == {"full_hr@10": None, "full_ndcg@10": None, "full_mrr@10": None}
    assert found.undefined() == {"ci95": "an interval over users needs at least two users"}


@pytest.mark.parametrize("unseen", [{}, {3: 0}, {3: 9, 4: 0}])
def test_where_no_user_is_left_nothing_is_scored_and_every_metric_is_undefined(unseen):
    def never(user, movie):
        raise AssertionError("asked")

    found = sampled_metrics(
        never, asked(unseen) if unseen else Candidates(*[np.empty(0, int)] * 2, np.empty((0, 12)), np.empty(0, int))
    )
    assert set(found.means().values()) == set(found.intervals(0).values()) == {None}
    reason = "no user has 10 unseen movies" if unseen else "there are no users"
    assert found.undefined() == dict.fromkeys(found.values, reason)
    assert found.left_out == len(unseen)


def test_rows_of_one_label_have_no_auc_and_keep_their_log_loss():
    """Three liked rows of two users, each given a half: the log loss is ln 2, and no row stands below another."""
    found = judge_rows("classification", np.ones(3), np.full(3, 0.5), np.array([0, 0, 1]))
    assert found.means() == {"auc": None, "log_loss": pytest.approx(np.log(2)), "ece": 0.5}
    assert found.intervals(0)["auc"] is None
    assert found.intervals(0)["log_loss"] == pytest.approx([np.log(2)] * 2)
    assert found.undefined() == {"auc": "the rows all have the same label"}


def test_rows_of_one_user_have_no_interval():
    found = judge_rows("rating", np.array([3.0, 4.0]), np.array([3.0, 5.0]), np.zeros(2, int))
    assert found.means() == {"rmse": pytest.approx(np.sqrt(0.5)), "mae": 0.5}
    assert found.intervals(0) == {"rmse": None, "mae": None}
    assert found.undefined() == {"ci95": "an interval over users needs at least two users"}


@pytest.mark.parametrize("task", ["classification", "rating"])
def test_without_rows_every_metric_is_undefined(task):
    nothing = np.empty(0)
    found = judge_rows(task, nothing, nothing, np.empty(0, int))
    assert set(found.means().values()) == set(found.intervals(0).values()) == {None}
    assert found.undefined() == dict.fromkeys(found.statistics, "there are no rows")


def test_a_constant_prediction_is_half_right():
    found = judge_rows("classification", np.array([1, 0, 1, 0]), np.full(4, 0.3), np.array([0, 0, 1, 1]))
    assert found.means()["auc"] == 0.5
    assert found.intervals(0)["auc"] == [0.5, 0.5]


def test_a_value_that_is_not_finite_is_undefined():
    found = judge_rows("rating", np.array([3.0, 4.0]), np.array([3.0, np.inf]), np.arange(2))
    assert found.means() == {"rmse": None, "mae": None}
    assert found.undefined() == dict.fromkeys(("rmse", "mae"), "the value is not a finite number")
    with pytest.raises(ValueError, match="not a number"):
        judge_rows("rating", np.array([3.0]), np.array([np.nan]), np.zeros(1, int))


def test_a_metric_says_why_it_is_undefined():
    statistic = RowStatistic(np.ones((2, 1)), lambda sums: float("nan"), undefined="the rows have no weight")
    found = replace(judge_rows("rating", np.ones(2), np.ones(2), np.arange(2)), statistics={"odd": statistic})
    assert found.means() == {"odd": None}
    assert found.undefined() == {"odd": "the rows have no weight"}


# -- the file and the table --------------------------------------------------------------------------------------------


def result(protocol: str, parts: list, model: str = "dlrm") -> Result:
    """An entry as `evaluate` writes it."""
    return Result(
        model=model,
        protocol=protocol,
        metrics={key: value for part in parts for key, value in part.means().items()},
        ci95={key: pair and tuple(pair) for part in parts for key, pair in part.intervals(0).items()},
        seed=1,
        epochs=1,
        train_seconds=1.0,
        samples_per_second=1,
        **{part.counted_as: part.count for part in parts},
        **left_out_and_undefined(parts),
    )


def test_what_is_undefined_is_null_with_its_reason_and_said_under_the_table(tmp_path):
    run = Run(tmp_path)
    ranked = [
        sampled_metrics(above({3: 2, 4: 10, 5: 9}), asked({3: 12, 4: 10, 5: 9})),
        PerUser(
            {name: np.empty(0) for name in ("full_hr@10", "full_ndcg@10", "full_mrr@10")},
            "full_catalogue_users",
            left_out=1234,
        ),
    ]
    rows = [judge_rows("classification", np.ones(3), np.full(3, 0.5), np.array([0, 0, 1]))]
    results = [result("leave-one-out", ranked), result("random-split", rows)]
    write_results(run, results, "made from")
    first, second = json.loads(run.evaluation.read_text(), parse_constant=pytest.fail)
    assert second["metrics"]["auc"] is second["ci95"]["auc"] is None
    assert second["undefined"] == {"auc": "the rows all have the same label"}
    assert first["left_out"] == {"test_users": 1, "full_catalogue_users": 1234}
    assert first["others"] == [10, 12]
    assert read_results(run) == results
    text = printed(run)
    assert "all movies, and a sample of 10 to 12)" in text
    left_out = "1 of the sampled figures and 1,234 of the figures over all movies."
    assert f"Users left out, as among fewer than 10 unseen movies any is a hit: {left_out}" in " ".join(text.split())
    assert "HR@10, all movies, NDCG@10, all movies, MRR@10, all movies: none, as no user has 10 unseen movies." in text
    assert "AUC: none, as the rows all have the same label." in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize("others", [(99, 99), None])
def test_the_heading_of_good_data_stays(others):
    protocol = PROTOCOLS["leave-one-out"]
    assert protocol.heading(others) == protocol.question
    assert "a sample of 29)" in protocol.heading((29, 29))
    assert PROTOCOLS["rating"].heading(others) == PROTOCOLS["rating"].question


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_json_number_is_refused_in_evaluation_json(tmp_path, text):
    run = Run(tmp_path)
    rows = [judge_rows("classification", np.array([1, 0]), np.full(2, 0.5), np.arange(2))]
    write_results(run, [result("random-split", rows)], "x")
    run.evaluation.write_text(run.evaluation.read_text().replace('"auc": 0.5', f'"auc": {text}', 1))
    with pytest.raises(UserError, match=f"is not valid JSON .*{text}"):
        read_results(run)


@pytest.mark.parametrize("stamp", ["[]", "{}", '{"fingerprint": 3, "sha256": "x"}', "{", "3"])
def test_a_stamp_that_is_none_means_that_the_results_are_made_again(tmp_path, stamp):
    from models.evaluation.results import made_from

    run = Run(tmp_path)
    write_results(run, [], "made from")
    assert made_from(run) == "made from"
    (tmp_path / ".evaluation-stamp.json").write_text(stamp)
    assert made_from(run) is None


# -- validation --------------------------------------------------------------------------------------------------------


class _FewUnseen:
    """Features of users who have rated so much that none is left to be asked about."""

    def __init__(self, features):
        self.features = features

    def __getattr__(self, name):
        return getattr(self.features, name)

    def candidates(self, part: str) -> Candidates:
        questions = self.features.candidates(part)
        return Candidates(
            questions.user, questions.positive, np.full_like(questions.negatives, -1), questions.not_before
        )

    def seen(self, *parts: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.meshgrid(np.arange(self.features.users), self.features.catalogue[:-5])
        return pairs[0].ravel(), pairs[1].ravel()


def test_where_validation_ranks_nobody_all_epochs_are_trained_and_the_last_is_kept(prepared):
    features = _FewUnseen(load_features(prepared, "leave-one-out"))
    settings = settings_for("leave-one-out", "mf", epochs=3, patience=1, batch_size=512)
    notes = []
    from models.training.loop import Callbacks

    callbacks = Callbacks(advance=lambda by, note: notes.append(note), watch=lambda *_: pytest.fail("no value"))
    model = build("mf", features.features, settings.network, 1)
    history, best = fit(model, features, settings, CPU, callbacks)
    assert best == len(history) == 3
    assert all(row["full_ndcg@10"] is None for row in history)
    assert json.dumps(history, allow_nan=False)
    assert sum("validation full_ndcg@10 undefined" in note for note in notes) == 3
    assert undefined_in_validation(features)["full_ndcg@10"] == "no user has 10 unseen movies"
    assert undefined_in_validation(features.features) == {}


def test_an_empty_split_is_judged_without_a_traceback(prepared):
    protocol = PROTOCOLS["random-split"]
    rows = load_features(prepared, "random-split").interactions("valid")
    nothing = type(rows)(**{name: getattr(rows, name)[:0] for name in rows.__dataclass_fields__})
    scorer = Scorer(lambda _: Asked(lambda user, movie: np.zeros(len(user))), lambda table: np.zeros(len(table)), True)
    assert set(undefined_in(protocol.judge(scorer, nothing)).values()) == {"there are no rows"}


# -- the whole way -----------------------------------------------------------------------------------------------------


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 0


@pytest.mark.slow
def test_a_user_who_has_rated_everything_is_counted_and_not_a_hit(tmp_path, capsys):
    """User 1 has rated all 40 movies; the others 20 each."""
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, 7):
        for time, movie in enumerate(rng.permutation(40)[: 40 if user == 1 else 20]):
            lines.append(f"{user},{movie + 1},{rng.integers(1, 6)},{10**9 + time}")
    write_data(data, lines)
    where = ["--dataset", "ml-latest-small", "--runs", str(tmp_path / "runs")]
    command("fetch", "--data", str(data), *where)
    command("prepare", *where)
    command("train", "--protocol", "leave-one-out", "--model", "mf", "--epochs", "1", *where)
    capsys.readouterr()
    command("evaluate", *where)
    text = " ".join(capsys.readouterr().out.split())
    results = read_results(Run(tmp_path / "runs" / "ml-latest-small"))
    assert {(r.test_users, r.full_catalogue_users, r.others) for r in results} == {(5, 5, (20, 20))}
    assert all(r.left_out == {"test_users": 1, "full_catalogue_users": 1} for r in results)
    assert "a sample of 20)" in text
    assert "1 of the sampled figures and 1 of the figures over all movies." in text


@pytest.mark.slow
def test_one_user_who_has_rated_everything_goes_the_whole_way(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"7,{movie},{1 + movie % 5},{10**9 + movie}" for movie in range(1, 31)]
    write_data(data, ["userId,movieId,rating,timestamp", *lines])
    where = ["--dataset", "ml-latest-small", "--runs", str(tmp_path / "runs")]
    command("fetch", "--data", str(data), *where)
    command("prepare", *where)
    command("train", "--protocol", "leave-one-out", "--model", "mf", "--epochs", "2", *where)
    assert "validation full_ndcg@10 is undefined: no user has 10 unseen movies" in " ".join(
        capsys.readouterr().out.split()
    )
    command("evaluate", *where)
    folder = tmp_path / "runs" / "ml-latest-small"
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    config = json.loads((folder / "models" / "leave-one-out" / "mf" / "config.json").read_text())
    assert config["validation"]["ndcg@10"] is None
    assert config["undefined"]["ndcg@10"] == "no user has 10 unseen movies"
    for entry in read_results(Run(folder)):
        assert set(entry.metrics.values()) == {None}
    command("compare", "--protocol", "leave-one-out", "--seeds", "1", *where)
    assert "cannot be compared by NDCG@10 among all movies: no user has 10 unseen movies." in " ".join(
        capsys.readouterr().out.split()
    )


def write_data(folder: Path, lines: list[str]) -> None:
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    movies = [f"{movie},Movie {movie} (1990),Drama" for movie in range(1, 41)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]) + "\n")
