"""The metrics that are registered, by task; and that one that is added is judged, displayed and compared like any."""

import numpy as np
import pytest

from models.data.interactions import Candidates
from models.evaluation.judgement import judge_rows
from models.evaluation.metrics.base import METRICS, Metric, add, columns_of, mean_of, metrics_of
from models.evaluation.paired import paired_row_difference
from models.evaluation.ranking import sampled_metrics
from models.protocols.base import PROTOCOLS

# Each task's metrics: title, direction, whether tables have a column for it, whether it is taken over all movies too.
RANKING = {
    "hr@10": ("HR@10", True, True, True),
    "ndcg@10": ("NDCG@10", True, True, True),
    "mrr@10": ("MRR@10", True, False, True),
    "auc": ("AUC", True, True, False),
}
CLASSIFICATION = {
    "auc": ("AUC", True, True, False),
    "log_loss": ("log loss", False, True, False),
    "ece": ("ECE", False, False, False),
}
STARS = {"rmse": ("RMSE", False, True, False), "mae": ("MAE", False, True, False)}
TASKS = {"ranking": RANKING, "classification": CLASSIFICATION, "rating": STARS}


def ranks_first(found):
    """1 where no other movie scores at least as high as the held-out one."""
    return (found.rank == 0).astype(np.float64)


def accuracy(label, score):
    """The share of rows on the right side of a half."""
    return mean_of(((score > 0.5) == (label > 0)).astype(np.float64))


@pytest.fixture
def first():
    yield add("first", Metric(task="ranking", title="first", per_user=ranks_first, full_catalogue=True))
    METRICS.remove("ranking/first")


@pytest.fixture
def share():
    metric = Metric(task="classification", title="accuracy", per_row=accuracy, needs_probability=True)
    yield add("accuracy", metric, position=15)
    METRICS.remove("classification/accuracy")


# -- what is there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_metrics_of_a_task_in_order(task):
    found = {
        name: (one.title, one.higher_is_better, one.in_tables, one.full_catalogue)
        for name, one in metrics_of(task).items()
    }
    assert list(found.items()) == list(TASKS[task].items())
    signs = [1 if higher else -1 for _, higher, _, _ in TASKS[task].values()]
    assert [metric.sign for metric in metrics_of(task).values()] == signs


def test_every_metric_is_of_one_of_the_three_tasks():
    assert set(METRICS) == {f"{task}/{name}" for task, metrics in TASKS.items() for name in metrics}
    assert all(key.startswith(f"{metric.task}/") for key, metric in METRICS.items())


def test_the_log_loss_and_the_calibration_error_need_probabilities():
    needing = [key for key, metric in METRICS.items() if metric.needs_probability]
    assert needing == ["classification/log_loss", "classification/ece"]


def test_the_columns_of_the_tables():
    assert columns_of("ranking") == [
        ("HR@10\nall movies", "full_hr@10"),
        ("NDCG@10\nall movies", "full_ndcg@10"),
        ("MRR@10\nall movies", "full_mrr@10"),
        ("HR@10\nsampled", "hr@10"),
        ("NDCG@10\nsampled", "ndcg@10"),
        ("AUC\nsampled", "auc"),
    ]
    assert columns_of("classification") == [("AUC", "auc"), ("log loss", "log_loss")]
    assert columns_of("rating") == [("RMSE", "rmse"), ("MAE", "mae")]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("functions", ["none", "both", "the other task's"])
def test_a_metric_whose_function_does_not_fit_its_task_is_refused(task, functions):
    other = {"per_row": accuracy} if task == "ranking" else {"per_user": ranks_first}
    given = {"none": {}, "both": {"per_row": accuracy, "per_user": ranks_first}, "the other task's": other}[functions]
    before = list(METRICS)
    with pytest.raises(ValueError, match="odd: a ranking metric needs per_user, any other per_row"):
        add("odd", Metric(task=task, title="odd", **given))
    assert list(METRICS) == before


@pytest.mark.parametrize("task", ["classification", "rating"])
@pytest.mark.parametrize("name", ["classification/auc", "classification/log_loss", "rating/rmse", "rating/mae"])
def test_scores_of_another_shape_are_refused_and_not_stretched(task, name):
    statistic = METRICS[name].per_row
    for label, score in ((np.zeros(3), np.zeros(1)), (np.zeros(1), np.zeros(3))):
        with pytest.raises(ValueError, match=r"the shapes .* differ"):
            statistic(label, score)
        with pytest.raises(ValueError, match=r"the shapes .* differ"):
            judge_rows(task, label, score, np.zeros(3, int))


# -- one that is added -------------------------------------------------------------------------------------------------


def test_a_ranking_metric_that_is_added_is_judged_with_an_interval(first):
    """Of three users the held-out movie scores highest, second (by a tie), and highest."""
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.7, 0.6, 0.1]], np.float32)
    scores = np.pad(scores, ((0, 0), (0, 8)))
    questions = Candidates(np.arange(3), np.zeros(3, int), np.tile(np.arange(1, 11), (3, 1)), np.zeros(3, int))
    found = sampled_metrics(lambda user, movie: scores[user, movie], questions)
    assert list(found.values) == [*RANKING, "first"]
    assert found.values["first"].tolist() == [1, 0, 1]
    assert found.means()["first"] == pytest.approx(2 / 3)
    low, high = found.intervals(0)["first"]
    assert 0 <= low < 2 / 3 < high <= 1
    assert PROTOCOLS["leave-one-out"].metrics["first"] is first
    assert [name for _, name in columns_of("ranking")] == [
        *("full_hr@10", "full_ndcg@10", "full_mrr@10", "full_first"),
        *("hr@10", "ndcg@10", "auc", "first"),
    ]
    assert columns_of("ranking")[3] == ("first\nall movies", "full_first")
    assert columns_of("ranking")[-1] == ("first\nsampled", "first")


def test_a_metric_of_rows_that_is_added_is_judged_with_an_interval(share):
    """User 0 has two rows right of two, user 1 one of two."""
    label, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.8, 0.7])
    owner = np.array([0, 0, 1, 1])
    found = judge_rows("classification", label, score, owner)
    assert list(found.statistics) == ["auc", "accuracy", "log_loss", "ece"]
    assert found.means()["accuracy"] == 3 / 4
    assert found.intervals(0)["accuracy"] == [0.5, 1.0]
    assert PROTOCOLS["random-split"].metrics["accuracy"] is share
    assert ("accuracy", "accuracy") in columns_of("classification")
    assert list(judge_rows("classification", label, score, owner, is_probability=False).statistics) == ["auc"]
    assert list(judge_rows("rating", label, score, owner).statistics) == ["rmse", "mae"]


def test_a_metric_of_rows_that_is_added_can_be_compared(share):
    label, owner = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    right, half = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.9, 0.9, 0.8, 0.8])
    judged = [judge_rows("classification", label, score, owner).statistics["accuracy"] for score in (right, half)]
    found = paired_row_difference(judged[:1], judged[1:], owner, seed=1, rounds=50)
    # every resample of the two users has an accuracy of 1 and one of a half
    assert (found.value, found.low, found.high, found.p_value) == (0.5, 0.5, 0.5, 0)
    same = paired_row_difference(judged[:1], judged[:1], owner, seed=1, rounds=50)
    assert (same.value, same.p_value) == (0, 1)


def test_a_metric_that_was_taken_out_is_gone():
    assert "ranking/first" not in METRICS
    assert "classification/accuracy" not in METRICS
    assert not {"first", "accuracy"} & {*metrics_of("ranking"), *metrics_of("classification")}
