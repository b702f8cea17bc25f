"""The metrics against fractions worked out by hand, scikit-learn and ranx."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from models.evaluation.bootstrap import bootstrap
from models.evaluation.judgement import judge_rows
from models.evaluation.metrics.classification import auc, calibration_gaps, log_losses, placements
from models.evaluation.metrics.ranking import hit_rate, mrr, ndcg, rank_of_positive, user_auc

# Few different values, so that ties are frequent; all exact in binary.
TIED_SCORES = st.integers(-4, 4).map(lambda value: value / 4)


@st.composite
def labelled_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with both classes, scores with ties, and whole weights of which each class has a positive one."""
    size = draw(st.integers(2, 40))
    label = draw(arrays(np.float32, size, elements=st.sampled_from([0.0, 1.0])))
    score = draw(arrays(np.float64, size, elements=TIED_SCORES))
    weight = draw(arrays(np.float64, size, elements=st.integers(0, 5).map(float)))
    label[:2] = [0, 1]
    weight[:2] = np.maximum(weight[:2], 1)
    return label, score, weight


# -- ranks -------------------------------------------------------------------------------------------------------------


def test_rank_counts_the_others_that_score_at_least_as_high():
    positive = np.array([0.5, 0.5, 0.5, 0.5])
    others = np.array([[0.4, 0.3, 0.2], [0.6, 0.3, 0.9], [0.5, 0.3, 0.5], [0.9, 0.5, 0.7]])
    assert rank_of_positive(positive, others).tolist() == [0, 2, 2, 3]


def test_a_constant_scorer_ranks_last():
    assert rank_of_positive(np.zeros(2), np.zeros((2, 99))).tolist() == [99, 99]


def test_rank_ignores_invalid_entries():
    positive = np.array([0.5, 0.5, 0.5])
    others = np.array([[0.9, 0.9, 0.1], [0.9, 0.5, 0.7], [np.nan, 0.5, 0.7]])
    valid = np.array([[True, False, True], [False, False, False], [False, True, False]])
    assert rank_of_positive(positive, others, valid).tolist() == [1, 0, 1]


def test_rank_ignores_invalid_entries_even_where_the_positive_scores_minus_infinity():
    others, valid = np.array([[0.0, 0.0, 0.0]]), np.array([[True, False, False]])
    assert rank_of_positive(np.array([-np.inf]), others, valid).tolist() == [1]


@pytest.mark.parametrize(
    ("positive", "others"), [([np.nan], [[0.1, 0.2]]), ([0.5], [[np.nan, 0.2]]), ([np.nan], [[np.nan, np.nan]])]
)
def test_rank_of_a_score_that_is_not_a_number_is_refused(positive, others):
    with pytest.raises(ValueError, match="not a number"):
        rank_of_positive(np.array(positive), np.array(others))


def test_rank_refuses_a_valid_entry_that_is_not_a_number():
    with pytest.raises(ValueError, match="not a number"):
        rank_of_positive(np.array([0.5]), np.array([[np.nan, 0.2]]), np.array([[True, False]]))


# -- metrics of ranks --------------------------------------------------------------------------------------------------


def test_hit_rate_by_hand():
    assert hit_rate(np.array([0, 1, 9, 10, 98])).tolist() == [1, 1, 1, 0, 0]
    assert hit_rate(np.array([0, 1, 9]), k=1).tolist() == [1, 0, 0]


def test_ndcg_by_hand():
    expected = [1, 1 / math.log2(3), 1 / 2, 1 / 3, 1 / math.log2(11), 0]
    np.testing.assert_allclose(ndcg(np.array([0, 1, 2, 6, 9, 10])), expected, rtol=1e-12)
    assert ndcg(np.array([2, 3]), k=3).tolist() == [0.5, 0]


def test_mrr_by_hand():
    np.testing.assert_allclose(mrr(np.array([0, 1, 4, 9, 10])), [1, 1 / 2, 1 / 5, 1 / 10, 0], rtol=1e-12)
    assert mrr(np.array([1, 2]), k=2).tolist() == [0.5, 0]


@pytest.mark.parametrize("metric", [hit_rate, ndcg, mrr])
def test_metrics_of_ranks_are_float64_and_never_rise_with_the_rank(metric):
    values = metric(np.arange(100))
    assert values.dtype == np.float64
    assert (np.diff(values) <= 0).all()
    assert values[0] == 1
    assert not values[10:].any()


# -- AUC ---------------------------------------------------------------------------------------------------------------


def test_user_auc_by_hand():
    positive = np.array([0.5, 0.5, 0.5, 0.5])
    others = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5], [0.9, 0.5, 0.1, 0.2]])
    assert user_auc(positive, others).tolist() == [1, 0, 1 / 2, (2 + 1 / 2) / 4]


def test_user_auc_ignores_invalid_entries_and_is_a_half_without_others():
    others = np.array([[0.9, 0.5, 0.1, np.nan], [0.1, 0.1, 0.1, 0.1]])
    valid = np.array([[False, True, True, False], [False] * 4])
    assert user_auc(np.array([0.5, 0.5]), others, valid).tolist() == [(1 + 1 / 2) / 2, 0.5]


def test_auc_by_hand():
    label, score = np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.4, 0.4, 0.1])
    # 0.9 is above three negatives, 0.4 is above one and ties with one: (3 + 1.5) of 6 pairs
    assert auc(label, score) == pytest.approx(4.5 / 6)


def test_auc_counts_a_row_as_often_as_it_is_there():
    label, score = np.array([1, 0, 0]), np.array([0.5, 0.9, 0.1])
    assert auc(np.repeat(label, [1, 1, 3]), np.repeat(score, [1, 1, 3])) == pytest.approx(3 / 4)
    assert auc(np.repeat(label, [1, 0, 3]), np.repeat(score, [1, 0, 3])) == 1


@pytest.mark.parametrize("label", [[1, 1], [0, 0]])
def test_auc_of_one_class_is_not_a_number(label):
    assert math.isnan(auc(np.array(label), np.array([0.1, 0.2])))


@pytest.mark.parametrize("score", [[np.nan, 0.5], [0.1, np.nan]])
def test_auc_of_a_score_that_is_not_a_number_is_refused(score):
    with pytest.raises(ValueError, match="not a number"):
        auc(np.array([0, 1]), np.array(score))


@settings(deadline=None, max_examples=60)
@given(labelled_rows())
def test_auc_agrees_with_scikit_learn(rows):
    label, score, weight = rows
    assert auc(label, score) == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)
    times = weight.astype(int)
    expected = sk.roc_auc_score(label, score, sample_weight=weight)
    assert auc(np.repeat(label, times), np.repeat(score, times)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(labelled_rows())
def test_user_auc_is_the_auc_of_one_positive(rows):
    _, score, _ = rows
    label = np.zeros(len(score))
    label[0] = 1
    assert user_auc(score[:1], score[None, 1:])[0] == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)


# -- placements --------------------------------------------------------------------------------------------------------


def test_placements_by_hand():
    label, score = np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.4, 0.4, 0.1])
    # of three negatives 0.9 is above all, 0.4 above one and ties with one; of two positives one is above 0.8,
    # one above the negative 0.4 and one ties with it, both are above 0.1
    np.testing.assert_allclose(placements(label, score), [1, 1 / 2, 1.5 / 3, 1.5 / 2, 1], rtol=1e-12)


def test_placements_of_a_constant_score_are_a_half():
    assert placements(np.array([1, 0, 0]), np.full(3, 0.7)).tolist() == [0.5] * 3


@pytest.mark.parametrize("label", [[1, 1], [0, 0]])
def test_placements_without_rows_of_the_other_label_are_zero(label):
    assert placements(np.array(label), np.array([0.1, 0.2])).tolist() == [0, 0]


def test_placements_of_nothing_are_nothing():
    assert placements(np.empty(0), np.empty(0)).shape == (0,)


@pytest.mark.parametrize("score", [[np.nan, 0.5], [0.1, np.nan]])
def test_placements_of_a_score_that_is_not_a_number_are_refused(score):
    with pytest.raises(ValueError, match="not a number"):
        placements(np.array([0, 1]), np.array(score))


@settings(deadline=None, max_examples=100)
@given(labelled_rows())
def test_placements_are_the_shares_counted_one_by_one(rows):
    label, score, _ = rows
    expected = []
    for own, value in zip(label, score):
        others = score[label != own]
        better = others < value if own else others > value
        expected.append((better.sum() + (others == value).sum() / 2) / len(others))
    found = placements(label, score)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(labelled_rows())
def test_the_mean_placement_of_either_label_is_the_auc(rows):
    label, score, _ = rows
    found = placements(label, score)
    for value in (0, 1):
        assert found[label == value].mean() == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)


# -- log loss ----------------------------------------------------------------------------------------------------------


def test_log_losses_by_hand():
    expected = [-math.log(1 / 2), -math.log(1 / 4), -math.log(3 / 4)]
    losses = log_losses(np.array([1, 1, 0]), np.array([0.5, 0.25, 0.25], np.float32))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert losses.dtype == np.float64


def test_log_losses_of_certainty_are_finite():
    losses = log_losses(np.array([1, 0, 1, 0]), np.array([0.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(losses, [-math.log(1e-7)] * 2 + [1e-7] * 2, rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(labelled_rows(), st.integers(0, 2**32 - 1))
def test_log_losses_agree_with_scikit_learn(rows, seed):
    label, _, weight = rows
    probability = np.random.default_rng(seed).uniform(0.001, 0.999, len(label))
    losses = log_losses(label, probability)
    assert losses.mean() == pytest.approx(sk.log_loss(label, probability), rel=1e-9)
    expected = sk.log_loss(label, probability, sample_weight=weight)
    assert np.average(losses, weights=weight) == pytest.approx(expected, rel=1e-9)


# -- bootstrap ---------------------------------------------------------------------------------------------------------


def weighted_mean(values: np.ndarray):
    return lambda weight: float(weight @ values / weight.sum())


def test_the_interval_of_a_constant_has_no_width():
    found = bootstrap(lambda _: 0.25, users=30, seed=1, rounds=50)
    assert found.shape == (2,)
    assert found.tolist() == [0.25, 0.25]
    low, high = bootstrap(weighted_mean(np.full(30, 0.25)), users=30, seed=1, rounds=50)
    assert low == pytest.approx(0.25)
    assert high == pytest.approx(0.25)


def test_the_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(5).normal(2, 3, 400)
    low, high = bootstrap(weighted_mean(values), len(values), seed=7, rounds=2000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_every_resample_draws_as_many_users_as_there_are():
    sums = []
    bootstrap(lambda weight: sums.append((len(weight), weight.sum(), weight.min() >= 0)) or 0.0, 13, 0, 20)
    assert sums == [(13, 13, True)] * 20


def test_a_bootstrap_repeats_with_its_seed_and_changes_with_another():
    values = np.random.default_rng(0).normal(size=50)
    first, again, other = (bootstrap(weighted_mean(values), 50, seed, 200) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert (first != other).all()


def test_several_statistics_get_the_intervals_that_each_would_get_alone():
    values = np.random.default_rng(1).normal(size=(3, 40))
    together = bootstrap(lambda weight: values @ weight / weight.sum(), 40, 5, 100)
    assert together.shape == (2, 3)
    alone = [bootstrap(weighted_mean(one), 40, 5, 100) for one in values]
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-12)


def test_a_resample_that_cannot_be_judged_does_not_count():
    drawn = []

    def sometimes(weight: np.ndarray) -> float:
        drawn.append(weight[0])
        return weight.max() if weight[0] else math.nan

    low, high = bootstrap(sometimes, 5, 0, 200)
    assert 0 in drawn
    assert 1 <= low <= high <= 5


# -- ranx --------------------------------------------------------------------------------------------------------------


def test_hit_rate_ndcg_and_mrr_agree_with_ranx(monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)  # compiling ranx takes half a minute
    import ranx

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 40))
    def check(seed: int, count: int) -> None:
        users = 12
        scores = np.random.default_rng(seed).permuted(np.tile(np.arange(count + 1.0), (users, 1)), axis=1)
        rank = rank_of_positive(scores[:, 0], scores[:, 1:])
        truth = ranx.Qrels({f"user{user:02}": {"movie0": 1} for user in range(users)})
        run = ranx.Run(
            {f"user{user:02}": {f"movie{i}": score for i, score in enumerate(scores[user])} for user in range(users)}
        )
        for name, metric in (("hit_rate@10", hit_rate), ("ndcg@10", ndcg), ("mrr@10", mrr)):
            np.testing.assert_allclose(metric(rank), ranx.evaluate(truth, run, name, return_mean=False), rtol=1e-9)

    check()


# -- calibration -------------------------------------------------------------------------------------------------------


def test_the_calibration_error_by_hand():
    """Two bins: .2 and .4 with a share of 1/2 (gap .2), .6 and .8 with 1/2 (gap .2), so that the error is .2."""
    label, probability = np.array([0, 1, 0, 1]), np.array([0.2, 0.4, 0.6, 0.8])
    gaps = calibration_gaps(label, probability, bins=2)
    assert gaps == pytest.approx([-0.2, 0.6, 0.6, -0.2])
    assert gaps.mean() == pytest.approx(0.2)
    assert calibration_gaps(label, probability, bins=1).mean() == pytest.approx(0)


def test_a_constant_share_is_calibrated_and_certainty_that_errs_is_not():
    label = np.array([1, 0, 0, 0])
    assert calibration_gaps(label, np.full(4, 0.25)).mean() == pytest.approx(0)
    assert calibration_gaps(label, np.full(4, 1.0)).mean() == pytest.approx(0.75)
    assert calibration_gaps(label, label.astype(float)).mean() == 0
    assert len(calibration_gaps(np.empty(0), np.empty(0))) == 0


def test_true_probabilities_have_hardly_any_calibration_error_and_pushed_ones_have_much():
    rng = np.random.default_rng(0)
    probability = rng.random(60_000)
    label = rng.random(60_000) < probability
    assert calibration_gaps(label, probability).mean() < 0.01
    pushed = probability**2
    expected = np.abs(pushed - probability).mean()
    assert calibration_gaps(label, pushed).mean() == pytest.approx(expected, abs=0.01)


@given(labelled_rows(), st.integers(1, 20))
def test_the_calibration_error_is_that_of_the_bins(rows, bins):
    label, score, _ = rows
    probability = (score + 1) / 2
    starts = sorted({sorted(probability)[place * len(label) // bins] for place in range(bins)})
    place = [max(number for number, start in enumerate(starts) if start <= one) for one in probability]
    expected = sum(
        abs(sum(probability[row] - label[row] for row in range(len(label)) if place[row] == number))
        for number in range(len(starts))
    )
    gaps = calibration_gaps(label, probability, bins)
    assert gaps.mean() == pytest.approx(expected / len(label))
    assert -1e-12 <= gaps.mean() <= 1
    order = np.random.default_rng(bins).permutation(len(label))
    assert calibration_gaps(label[order], probability[order], bins).mean() == pytest.approx(gaps.mean())


def test_the_interval_of_the_calibration_error_lies_around_it():
    rng = np.random.default_rng(1)
    probability = rng.random(2_000)
    label, owner = (rng.random(2_000) < probability).astype(float), np.arange(2_000) % 50
    judged = judge_rows("classification", label, probability, owner)
    low, high = judged.intervals(0)["ece"]
    assert low < judged.means()["ece"] < high
