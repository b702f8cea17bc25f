"""What pictures show is what can be reckoned by hand, or what another library finds."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from models.evaluation.bootstrap import bootstrap
from models.evaluation.classes import equal_counts
from models.evaluation.coverage import EMPTY, coverage
from models.evaluation.judgement import PerUser, judge_rows
from models.evaluation.metrics.base import metrics_of
from models.evaluation.metrics.classification import auc
from models.evaluation.metrics.ranking import hit_rate, ndcg, ranking
from models.evaluation.paired import paired_difference, paired_row_difference
from report.calculations.classes import between, by_name
from report.calculations.differences import ROUNDS, comparable, difference_with_p, differences, minus
from report.calculations.groups import dense, grouped
from report.calculations.lists import diversity, in_common, jaccard, lists_of, novelty
from report.calculations.ranks import at_each_k, curves_of, per_user
from report.calculations.scores import (
    Points,
    average_precision,
    bin_of,
    calibration,
    error_by_chance,
    expected_calibration_error,
    precision_recall,
    roc,
    thinned,
)
from report.pictures.cost import names_apart

RANKS = st.lists(st.integers(0, 80), min_size=1, max_size=40).map(np.array)
FEW = settings(max_examples=40, deadline=None)


# -- ranks -------------------------------------------------------------------------------------------------------------


def test_hits_and_gains_by_hand():
    hits, gains = at_each_k(np.array([0, 1, 1, 60]), most=50)
    assert hits[:3].tolist() == [0.25, 0.75, 0.75]
    assert gains[:2] == pytest.approx([0.25, (1 + 2 / np.log2(3)) / 4])
    assert (hits[-1], len(hits)) == (0.75, 50)


@FEW
@given(RANKS, st.integers(1, 50))
def test_every_cut_off_is_that_of_the_metrics(rank, k):
    hits, gains = at_each_k(rank, most=50)
    assert hits[k - 1] == pytest.approx(hit_rate(rank, k).mean())
    assert gains[k - 1] == pytest.approx(ndcg(rank, k).mean())
    assert (np.diff(hits) >= 0).all()
    assert (np.diff(gains) >= -1e-12).all()


def test_intervals_of_curves_are_those_of_a_bootstrap_over_users():
    rank = np.random.default_rng(3).geometric(0.05, 400) - 1
    hits, gains = curves_of(rank, most=50, seed=0, rounds=4_000)
    for curve, metric in ((hits, hit_rate), (gains, ndcg)):
        values = metric(rank, 10)
        low, high = bootstrap(lambda weight, of=values: weight @ of / len(of), len(rank), 1, 4_000)
        assert (curve.low[9], curve.high[9]) == pytest.approx((low, high), abs=0.004)
        assert (curve.low <= curve.value).all()
        assert (curve.value <= curve.high).all()


@FEW
@given(st.data())
def test_any_ranking_metric_of_the_kept_ranks_is_that_of_the_scores(data):
    users, most = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    scores = np.array(data.draw(st.lists(st.integers(0, 3), min_size=users * most, max_size=users * most)), float)
    scores = scores.reshape(users, most)
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=users * most, max_size=users * most)))
    valid = valid.reshape(users, most)
    positive = np.array(data.draw(st.lists(st.integers(0, 3), min_size=users, max_size=users)), float)
    found = ranking(positive, scores, valid)
    ties = ((scores == positive[:, None]) & valid).sum(axis=1)
    for metric in metrics_of("ranking").values():
        values = per_user(metric, found.rank, ties, valid.sum(axis=1))
        assert values == pytest.approx(metric.per_user(found))


def test_users_are_asked_about_in_blocks(monkeypatch):
    rank = np.arange(30)
    whole = per_user(metrics_of("ranking")["auc"], rank, np.zeros(30, int), np.full(30, 40))
    monkeypatch.setattr("report.calculations.ranks.CELLS_AT_ONCE", 100)
    blocks = per_user(metrics_of("ranking")["auc"], rank, np.zeros(30, int), np.full(30, 40))
    assert blocks.tolist() == whole.tolist() == ((40 - rank) / 40).tolist()


# -- scores ------------------------------------------------------------------------------------------------------------

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def area(curve: Points) -> float:
    """Of the trapezoids under it."""
    return float(np.sum(np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2))


@FEW
@given(ROWS)
def test_the_area_under_roc_is_the_auc(rows):
    label, score = (np.array(column, float) for column in zip(*rows))
    curve = roc(label, score)
    assert area(curve) == pytest.approx(auc(label, score))
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)


@FEW
@given(ROWS)
def test_average_precision_is_scikit_learns(rows):
    label, score = (np.array(column, float) for column in zip(*rows))
    curve = precision_recall(label, score)
    assert average_precision(curve) == pytest.approx(average_precision_score(label, score))
    assert (curve.x[-1], curve.y[-1]) == (1, pytest.approx(label.mean()))


def test_a_thinned_curve_is_the_same_to_the_eye():
    rng = np.random.default_rng(0)
    label = rng.random(20_000) < 0.4
    curve = roc(label, label + rng.normal(size=20_000))
    few = thinned(curve)
    assert len(few.x) <= 402 < len(curve.x)
    assert (few.x[0], few.y[0], few.x[-1], few.y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(curve.x, few.x, few.y) - curve.y).max() < 0.005
    short = Points(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert thinned(short) is short


@FEW
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 12))
def test_bins_are_in_order_and_keep_equal_values_together(values, bins):
    value = np.array(values) / 5
    found = bin_of(value, bins)
    assert found.min() >= 0
    assert found.max() < bins
    order = np.argsort(value, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert all(len(set(found[value == one])) == 1 for one in set(value))


def test_bins_of_different_values_hold_equally_many():
    assert np.bincount(bin_of(np.random.default_rng(0).random(1_000), 10)).tolist() == [100] * 10


def test_expected_calibration_error_by_hand():
    label = np.array([0, 0, 1, 1, 1, 0, 1, 1])
    probability = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    found = calibration(label, probability, np.arange(8), seed=0, bins=2)
    assert found.rows.tolist() == [4, 4]
    assert found.predicted == pytest.approx([0.25, 0.75])
    assert found.observed == pytest.approx([0.5, 0.75])
    assert found.error == pytest.approx(0.125)
    assert (found.low <= found.observed).all()
    assert (found.observed <= found.high).all()


def test_one_users_rows_have_a_calibration_without_intervals():
    found = calibration(np.array([0, 1]), np.array([0.5, 0.5]), np.zeros(2, int), seed=0)
    assert (found.rows.tolist(), found.observed.tolist(), found.error) == ([2], [0.5], 0)
    assert np.isnan([found.low, found.high]).all()


def test_error_by_chance_is_what_right_probabilities_show():
    rng = np.random.default_rng(0)
    probability = rng.beta(2, 3, 2_000)
    bins = bin_of(probability)
    rows, predicted = np.bincount(bins), np.bincount(bins, probability) / np.bincount(bins)
    drawn = [
        expected_calibration_error(rows, predicted, np.bincount(bins, rng.random(2_000) < probability) / rows)
        for _ in range(500)
    ]
    assert error_by_chance(probability, bins) == pytest.approx(np.mean(drawn), rel=0.05)


# -- lists -------------------------------------------------------------------------------------------------------------


def test_lists_are_in_the_order_of_users_and_places():
    table = pd.DataFrame({"user_id": [9, 9, 2], "place": np.array([1, 0, 0], np.int8), "movie_id": [5, 4, 4]})
    found = lists_of(table)
    assert (found.user.tolist(), found.movie.tolist()) == ([2, 9], [[4, EMPTY], [4, 5]])


def test_coverage_and_its_jackknife_by_hand():
    movie = np.array([[1, 2], [1, 3], [1, 4]])  # without any user one movie of four is gone
    assert coverage(movie, 8) == (0.5, (0.5, 0.5))
    movie = np.array([[1, 2, 5], [1, 3, 4], [1, 2, 3]])  # 5 and 4 are of one list only
    share, interval = coverage(movie, 10)
    error = np.sqrt(2 / 3 * (2 * (1 - 2 / 3) ** 2 + (2 / 3) ** 2)) / 10
    assert share == 0.5
    assert interval == pytest.approx((0.5 - 1.95996 * error, 0.5 + 1.95996 * error), abs=1e-6)
    assert coverage(movie[:1], 10) == (0.3, None)


def test_the_interval_of_coverage_holds_what_other_users_cover():
    """Nineteen times in twenty, or more often."""
    rng = np.random.default_rng(0)
    chance = rng.pareto(1, 500) + 0.02
    draws = [
        np.array([rng.choice(500, 10, replace=False, p=chance / chance.sum()) for _ in range(60)]) for _ in range(60)
    ]
    found = [coverage(movie, 500) for movie in draws]
    mean = np.mean([share for share, _ in found])
    assert np.mean([interval[0] <= mean <= interval[1] for _, interval in found]) > 0.9


def test_novelty_is_the_mean_self_information():
    share = {1: 1.0, 2: 0.25, 3: 0.125}
    assert novelty(np.array([[1, 2], [2, 3], [1, EMPTY]]), share).tolist() == [1.0, 2.5, 0.0]


def test_diversity_by_hand():
    genres = {
        1: frozenset({"Drama"}),
        2: frozenset({"Drama", "War"}),
        3: frozenset({"Comedy"}),
        4: frozenset[str](),
        5: frozenset[str](),
    }
    found = diversity(np.array([[1, 2, 3], [1, 1, EMPTY], [4, 5, EMPTY], [4, 1, EMPTY], [1, EMPTY, EMPTY]]), genres)
    assert found[:4] == pytest.approx([(0.5 + 1 + 1) / 3, 0, 0, 1])
    assert np.isnan(found[4])


def test_overlap_by_hand():
    one = np.array([[1, 2, 3], [1, 2, 3], [1, 2, EMPTY], [EMPTY] * 3])
    other = np.array([[3, 2, 1], [4, 5, 6], [2, EMPTY, EMPTY], [EMPTY] * 3])
    assert in_common(one, other).tolist() == [3, 0, 1, 0]
    assert jaccard(one, other).tolist() == [1, 0, 0.5, 0]
    assert jaccard(one, other).tolist() == jaccard(other, one).tolist()


# -- classes -----------------------------------------------------------------------------------------------------------


@FEW
@given(st.lists(st.integers(0, 30), min_size=1, max_size=80).map(np.array))
def test_classes_of_equal_counts_hold_every_row_once_in_order(value):
    found = equal_counts(value)
    assert sorted(np.concatenate([one.rows for one in found])) == list(range(len(value)))
    assert 1 <= len(found) <= 5
    ranges = [(value[one.rows].min(), value[one.rows].max()) for one in found]
    assert all(low <= high for low, high in ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_fixed_classes_leave_out_what_is_unknown_and_what_is_empty():
    found = between(np.array([np.nan, 0, 1, 99]), [("none", 1), ("few", 5), ("some", 50), ("many", np.inf)])
    assert [(one.name, one.rows.tolist()) for one in found] == [("none", [1]), ("few", [2]), ("many", [3])]


def test_a_row_is_in_the_class_of_each_of_its_names():
    found = by_name([["War", "Drama"], ["War"], []], "(none)")
    assert [(one.name, one.rows.tolist()) for one in found] == [("Drama", [0]), ("War", [0, 1]), ("(none)", [2])]


# -- differences -------------------------------------------------------------------------------------------------------


def test_differences_of_users_are_those_of_the_paired_test():
    rng = np.random.default_rng(0)
    one, other = (PerUser({"hr@10": rng.random(50), "auc": rng.random(50)}) for _ in range(2))
    found = differences(one, other, seed=4)
    assert list(found) == ["hr@10", "auc"]
    for name, interval in found.items():
        expected = paired_difference(one.values[name], other.values[name], 4, ROUNDS)
        assert (interval.value, interval.low, interval.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    assert difference_with_p(one, other, "hr@10", 4) == paired_difference(
        one.values["hr@10"], other.values["hr@10"], 4, ROUNDS
    )


def rows_of(seed: int, is_probability: bool = True):
    rng = np.random.default_rng(9)
    label, owner = (rng.random(300) < 0.5).astype(float), np.arange(300) % 40
    score = np.random.default_rng(seed).random(300) * 0.5 + label * 0.2
    return judge_rows("classification", label, score, owner, is_probability)


def test_differences_of_rows_are_those_of_the_paired_test():
    one, other = rows_of(1), rows_of(2)
    found = differences(one, other, seed=4)
    assert list(found) == ["auc", "log_loss", "ece"]
    for name, interval in found.items():
        expected = paired_row_difference([one.statistics[name]], [other.statistics[name]], one.owner, 4, ROUNDS)
        assert (interval.value, interval.low, interval.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_what_one_of_the_models_lacks_is_left_out():
    assert list(differences(rows_of(1), rows_of(2, is_probability=False), seed=0)) == ["auc"]
    one = PerUser({"hr@10": np.array([1.0])})
    assert (differences(one, one, 0), comparable(one, one), difference_with_p(one, one, "hr@10", 0)) == ({}, [], None)
    label = np.ones(4)
    same = judge_rows("classification", label, np.linspace(0.1, 0.9, 4), np.arange(4))
    assert comparable(same, same) == ["log_loss", "ece"]
    assert minus(same.statistics["auc"], same.statistics["auc"]).undefined == "the rows all have the same label"


def test_an_interval_of_groups_is_that_of_users():
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, 3_000, 12_000))
    label, score = (rng.random(12_000) < 0.5).astype(float), rng.random(12_000)
    score = 0.7 * score + 0.3 * label
    pairs = [
        judge_rows("classification", label, score, of).intervals(1)["auc"]
        for of in (dense(owner), grouped(dense(owner), most=500))
    ]
    assert pairs[0] == pytest.approx(pairs[1], abs=0.001)
    assert len(set(grouped(np.arange(3_000), most=500))) == 500
    assert grouped(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert len(grouped(np.empty(0, int))) == 0


# -- names -------------------------------------------------------------------------------------------------------------


@FEW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).map(np.array))
def test_names_keep_their_order_and_a_distance(value):
    heights = names_apart(value, 0.1)
    order = np.argsort(value, kind="stable")
    assert (np.diff(heights[order]) >= 0.1 - 1e-9).all()
    assert heights.mean() == pytest.approx(value.mean())
