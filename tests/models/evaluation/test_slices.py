"""Slices by training ratings and coverage: made up, and of a real evaluation."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.json_files import validated
from models.data.load import load_features
from models.evaluation.evaluate import fitted_baseline, judged
from models.evaluation.judgement import PerUser, judge_rows
from models.evaluation.kept import FULL_CATALOGUE, LISTS, Kept
from models.evaluation.results import Result
from models.evaluation.slices import COVERAGE, TrainingCounts, by_ratings, coverage_of, slices_of

# Of four users and five movies.
COUNTS = TrainingCounts(user=np.array([10, 1, 5, 5]), movie=np.array([0, 1, 2, 7, 0]))


def kept(name: str, user: list[int], movie: list[int], **columns: np.ndarray) -> Kept:
    return Kept(name=name, user=np.array(user), movie=np.array(movie), columns=columns)


# -- classes -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), max_size=60))
def test_every_row_is_in_one_class_and_the_new_stand_first(values):
    count = np.array(values, np.int64)
    found = by_ratings(count)
    assert sorted(row for one in found for row in one.rows.tolist()) == list(range(len(values)))
    new = [one for one in found if one.name == "new"]
    assert [one.rows.tolist() for one in new] == ([np.flatnonzero(count == 0).tolist()] if 0 in values else [])
    assert found[: len(new)] == new
    known = found[len(new) :]
    assert len(known) <= 3
    for before, after in pairwise(known):
        assert count[before.rows].max() < count[after.rows].min()


# -- slices ------------------------------------------------------------------------------------------------------------


def test_the_slices_of_a_ranking_worked_out_by_hand():
    """Held-out movies 0 and 4 are new; 1, 2 and 3 have 1, 2 and 7 training ratings."""
    table = kept(FULL_CATALOGUE, user=[0, 1, 2, 3, 0], movie=[0, 4, 1, 2, 3])
    part = PerUser({"full_ndcg@10": np.array([0.5, 0.0, 1.0, 0.0, 1.0])}, "full_catalogue_users", kept=(table,))
    sampled = PerUser({"ndcg@10": np.zeros(5)}, kept=(kept("sampled", [0] * 5, [0] * 5),))
    found = slices_of("leave-one-out", [sampled, part], COUNTS)
    of_movies = [(one.name, one.count, one.metrics["full_ndcg@10"]) for one in found["movie_popularity"]]
    assert of_movies == [("new", 2, 0.25), ("1", 1, 1.0), ("2", 1, 0.0), ("7", 1, 1.0)]
    of_users = [(one.name, one.count, one.metrics["full_ndcg@10"]) for one in found["user_activity"]]
    assert of_users == [("1", 1, 0.0), ("5", 2, 0.5), ("10", 2, 0.75)]


def test_the_slices_of_rows_worked_out_by_hand():
    """The AUC of rows with one label is undefined."""
    label, score = np.array([1, 0, 1, 0, 1], np.float32), np.array([0.9, 0.1, 0.4, 0.6, 0.8], np.float32)
    user, movie = [0, 0, 1, 2, 2], [3, 3, 0, 0, 1]
    rows = judge_rows("classification", label, score, np.array(user))
    part = replace(rows, kept=(kept("rows", user, movie, label=label, score=score),))
    found = {one.name: one for one in slices_of("random-split", [part], COUNTS)["movie_popularity"]}
    assert {name: one.count for name, one in found.items()} == {"new": 2, "1": 1, "7": 2}
    assert found["7"].metrics["auc"] == 1.0
    assert found["new"].metrics["auc"] == 0.0
    assert found["1"].metrics["auc"] is None
    assert found["1"].metrics["log_loss"] == pytest.approx(-np.log(0.8))
    assert found["new"].metrics["ece"] == pytest.approx((0.6 + 0.6) / 2)
    activity = {one.name: one.count for one in slices_of("random-split", [part], COUNTS)["user_activity"]}
    assert activity == {"1": 1, "5": 2, "10": 2}


def test_scores_that_are_no_probabilities_have_no_log_loss_in_a_slice():
    label, score = np.array([1.0, 0.0]), np.array([3.0, 2.0])
    rows = judge_rows("classification", label, score, np.array([0, 1]), is_probability=False)
    part = replace(rows, kept=(kept("rows", [0, 1], [3, 3], label=label, score=score),))
    (one,) = slices_of("random-split", [part], COUNTS)["movie_popularity"]
    assert one.metrics == {"auc": 1.0}


def test_what_keeps_no_table_has_no_slices():
    assert slices_of("leave-one-out", [PerUser({"full_ndcg@10": np.zeros(2)})], COUNTS) is None
    assert coverage_of([PerUser({"full_ndcg@10": np.zeros(2)})], 5) is None


def test_the_coverage_of_two_lists_worked_out_by_hand():
    """Of 40 movies one list holds 0 to 9, the other 5 to 14: 15 of them."""
    lists = kept(LISTS, user=[0] * 10 + [1] * 10, movie=[*range(10), *range(5, 15)])
    found = coverage_of([PerUser({"full_ndcg@10": np.zeros(2)}, kept=(lists,))], 40)
    assert list(found) == [COVERAGE] == ["coverage@10"]
    assert found[COVERAGE].value == 15 / 40
    assert found[COVERAGE].low <= found[COVERAGE].value <= found[COVERAGE].high


# -- a real evaluation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["leave-one-out", "random-split", "rating"])
def test_the_slices_of_an_evaluation_make_up_the_whole(prepared, protocol):
    features = load_features(prepared, protocol)
    name = {"leave-one-out": "popularity", "random-split": "biases", "rating": "biases"}[protocol]
    result = judged(name, fitted_baseline(prepared, name, features, ("train",), 1), features, 1, None)
    count = result.full_catalogue_users or result.test_rows
    metric = {"leave-one-out": "full_hr@10", "random-split": "log_loss", "rating": "mae"}[protocol]
    for found in result.slices.values():
        assert sum(one.count for one in found) == count
        mean = sum(one.count * one.metrics[metric] for one in found) / count
        assert mean == pytest.approx(result.metrics[metric], rel=1e-5)
    assert set(result.slices) == {"movie_popularity", "user_activity"}
    movies = load_features(prepared, protocol).seen("train")[1]
    tested = features.seen("test")[1]
    new = [one.count for one in result.slices["movie_popularity"] if one.name == "new"]
    assert sum(new) == np.isin(tested, movies, invert=True).sum()
    assert (result.coverage is not None) == (protocol == "leave-one-out")
    written = json.loads(json.dumps(asdict(result), allow_nan=False))
    assert validated(Result, {**written, "others": written["others"]}, "here") == result
