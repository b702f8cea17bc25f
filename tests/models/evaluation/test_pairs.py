"""Every pair of models: differences, Holm's correction, and what is said of them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.judgement import PerUser, judge_rows
from models.evaluation.over_splits import over_splits
from models.evaluation.paired import Difference, holm, paired_difference, paired_row_difference
from models.evaluation.pairs import FLIPS, all_pairs, as_json, joined, sentence, sentences

METRICS = ("full_ndcg@10", "full_hr@10", "full_mrr@10", "hr@10", "ndcg@10")
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


# -- Holm --------------------------------------------------------------------------------------------------------------


def test_a_case_worked_out_by_hand():
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1 is .02, .03, .06, .04, and the last is at least the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(P_VALUES)
def test_corrected_values_are_never_smaller_and_at_most_one(values):
    found = holm(values)
    assert all(value <= corrected <= 1 for value, corrected in zip(values, found))


@given(P_VALUES)
def test_the_order_stays(values):
    found = holm(values)
    for one, other in combinations(range(len(values)), 2):
        if values[one] <= values[other]:
            assert found[one] <= found[other]


@given(P_VALUES, st.randoms())
def test_the_place_of_a_value_does_not_matter(values, random):
    places = list(range(len(values)))
    random.shuffle(places)
    found = holm(values)
    assert holm([values[place] for place in places]) == [found[place] for place in places]


@given(P_VALUES)
def test_bonferroni_is_never_below(values):
    assert all(one <= min(1, len(values) * value) + 1e-12 for value, one in zip(values, holm(values)))


# -- all pairs ---------------------------------------------------------------------------------------------------------


def ranked(quality: float, seed: int, users: int = 60) -> list:
    """Judgements of one training seed: sampled metrics and, as a second part, those over all movies."""
    rng = np.random.default_rng(seed)
    values = {metric: (rng.random(users) < quality).astype(float) for metric in METRICS}
    of = {full: {name: one for name, one in values.items() if name.startswith("full_") == full} for full in (0, 1)}
    return [PerUser(of[0]), PerUser(of[1], "full_catalogue_users")]


def models(**quality: float) -> dict[str, list]:
    return {name: [ranked(one, place), ranked(one, 10 + place)] for place, (name, one) in enumerate(quality.items())}


def test_every_pair_is_compared_as_two_models_alone_are():
    judged = models(dlrm=0.8, ncf=0.5, popularity=0.3)
    found = all_pairs(judged, "leave-one-out", seed=3)
    assert list(found) == [("dlrm", "ncf"), ("dlrm", "popularity"), ("ncf", "popularity")]
    for (one, other), by_metric in found.items():
        assert list(by_metric) == list(METRICS)
        for metric, difference in by_metric.items():
            part = 1 if metric.startswith("full_") else 0
            means = [np.mean([seed[part].values[metric] for seed in judged[name]], axis=0) for name in (one, other)]
            alone = paired_difference(*means, seed=3, rounds=FLIPS)
            assert difference.value == pytest.approx(alone.value)
            assert (difference.low, difference.high) == pytest.approx((alone.low, alone.high))
            assert difference.p_value == pytest.approx(alone.p_value)


def test_every_pair_of_scored_rows_is_compared_as_two_models_alone_are():
    rng = np.random.default_rng(5)
    owner, label = np.repeat(np.arange(20), 10), rng.integers(0, 2, 200).astype(float)
    better = {"dlrm": 0.5, "ncf": 0.2, "biases": 0.1}
    scored = {name: (label * by + rng.random(200)) / 2 for name, by in better.items()}
    judged = {name: [[judge_rows("classification", label, score, owner)]] for name, score in scored.items()}
    for (one, other), by_metric in all_pairs(judged, "random-split", seed=3).items():
        first, second = (judged[name][0][0].statistics["auc"] for name in (one, other))
        alone = paired_row_difference([first], [second], owner, seed=3)
        found = by_metric["auc"]
        expected = (alone.value, alone.low, alone.high, alone.p_value)
        assert (found.value, found.low, found.high, found.p_value) == pytest.approx(expected)


def test_a_metric_that_a_model_lacks_is_no_reason_to_fail():
    judged = models(dlrm=0.8, ncf=0.5)
    judged["ncf"] = [one[:1] for one in judged["ncf"]]  # nothing over all movies
    found = as_json("leave-one-out", all_pairs(judged, "leave-one-out", seed=1))
    assert found["dlrm_minus_ncf"]["full_ndcg@10"]["undefined"] == "one of the models is not judged by it"
    assert found["dlrm_minus_ncf"]["hr@10"]["value"] > 0
    assert found["pairs"] == 0


def test_flips_are_enough_for_a_clear_difference_to_stay_clear_when_it_is_corrected():
    """Of 12 models with 66 pairs: with 10,000 flips the smallest corrected p-value would be .0066."""
    judged = {f"model-{place}": [ranked(0.02 + 0.96 * (place == 0), place, users=80)] for place in range(12)}
    found = as_json("leave-one-out", all_pairs(judged, "leave-one-out", seed=1))
    assert found["pairs"] == 66
    assert found["model-0_minus_model-1"]["full_ndcg@10"]["p_holm"] < 0.001
    assert found["model-1_minus_model-2"]["full_ndcg@10"]["p_holm"] > 0.05


# -- in words ----------------------------------------------------------------------------------------------------------


def judged_file(**quality: float) -> dict:
    judged = models(**quality)
    means = {name: {"metrics": dict.fromkeys(METRICS, quality[name])} for name in quality}
    pairs = as_json("leave-one-out", all_pairs(judged, "leave-one-out", seed=3))
    return {"seeds": [1, 2], "splits": [42], "models": means, **pairs}


def test_a_sentence_for_the_two_networks_and_one_for_the_best_of_all():
    found = judged_file(dlrm=0.6, ncf=0.1, popularity=0.2, ease=0.95)
    first, second = sentences("leave-one-out", found, ("dlrm", "ncf")).split(". ")[:2]
    assert first.startswith("DLRM is better than NCF: NDCG@10 among all movies higher by ")
    assert second.startswith("EASE is better than DLRM: NDCG@10 among all movies higher by ")
    assert "corrected for 6 pairs, 2 training seeds each, the only split), so this is very likely" in second


def test_baselines_that_are_worse_than_the_networks_are_said_to_be():
    found = judged_file(dlrm=0.9, ncf=0.1, popularity=0.2)
    second = sentences("leave-one-out", found, ("dlrm", "ncf")).split(". ")[1]
    assert second.startswith("DLRM is better than Popularity: NDCG@10")


def test_the_order_in_which_two_models_are_named_does_not_matter():
    found = judged_file(dlrm=0.95, ncf=0.1, popularity=0.5)
    for pair in combinations(found["models"], 2):
        assert " is better than " in sentence("leave-one-out", *pair, found)
        assert sentence("leave-one-out", *pair, found) == sentence("leave-one-out", *pair[::-1], found)


# -- several splits ----------------------------------------------------------------------------------------------------


def test_the_corrected_variance_worked_out_by_hand():
    """Values .01, .02, .03: variance .0001; times 1/3 + 1/4 is 7/12 of it; t of 2 degrees of freedom is 4.3027."""
    found = over_splits([0.01, 0.02, 0.03], [(0.0, 0.0)] * 3, tested=0.25)
    assert found.value == pytest.approx(0.02)
    half = 4.302652729911275 * (7 / 12 * 0.0001) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert found.p_value == pytest.approx(0.1197, abs=0.001)


def test_splits_that_agree_leave_the_interval_over_users():
    found = over_splits([0.02] * 4, [(0.01, 0.03)] * 4, tested=0.25)
    assert (found.value, found.low, found.high) == pytest.approx((0.02, 0.01, 0.03))


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.001, 0.5)), min_size=2, max_size=8),
    st.floats(0.01, 1),
)
def test_several_splits_never_narrow_the_interval_below_that_over_users(splits, tested):
    values = [value for value, _ in splits]
    found = over_splits(values, [(value - half, value + half) for value, half in splits], tested)
    of_users = np.mean([half**2 for _, half in splits]) ** 0.5
    assert found.high - found.low >= 2 * of_users - 1e-9
    assert found.value == pytest.approx(np.mean(values))
    assert 0 <= found.p_value <= 1
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0) or abs(found.p_value - 0.05) < 1e-6


def test_the_same_models_do_not_differ_on_any_split():
    assert over_splits([0.0, 0.0], [(0.0, 0.0)] * 2, tested=0.25) == Difference(0.0, 0.0, 0.0, 1.0)


def test_one_split_has_no_variance():
    with pytest.raises(ValueError, match="at least two splits"):
        over_splits([0.1], [(0.0, 0.2)], tested=0.25)


def test_a_pair_that_one_split_cannot_compare_is_not_compared():
    pair = ("dlrm", "ncf")
    able: dict = {pair: {"auc": Difference(0.1, 0.0, 0.2, 0.04)}}
    assert joined([able], 0.25) == able
    assert joined([able, {pair: {"auc": "no reason"}}], 0.25) == {pair: {"auc": "no reason"}}
    assert joined([able, able], 0.25)[pair]["auc"].value == pytest.approx(0.1)
