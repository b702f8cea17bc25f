"""How sure a difference is: cases worked out by hand, enumerated, or resampled the plain way."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.evaluation import paired as statistics
from models.evaluation.metrics.classification import auc, auc_statistic
from models.evaluation.metrics.stars import rmse
from models.evaluation.paired import Basis, Difference, paired_difference, paired_row_difference, verdict


def paired_auc_difference(label, one, other, owner, seed: int, rounds: int) -> Difference:
    """Difference in AUC of two scorers of the same rows."""
    return paired_row_difference([auc_statistic(label, one)], [auc_statistic(label, other)], owner, seed, rounds)


def paired_rmse_difference(stars, one, other, owner, seed: int, rounds: int) -> Difference:
    """Difference in RMSE of two predictions of the same rows."""
    return paired_row_difference([rmse(stars, one)], [rmse(stars, other)], owner, seed, rounds)


def close(found: Difference, value: float, low: float, high: float, p_value: float, abs: float = 1e-12) -> bool:
    expected = pytest.approx((value, low, high, p_value), abs=abs)
    return (found.value, found.low, found.high, found.p_value) == expected


def swapped(found: Difference) -> tuple[float, float, float, float]:
    return -found.value, -found.high, -found.low, found.p_value


def judged_rows(seed: int, users: int = 80, noise: float = 1.0) -> dict[str, np.ndarray]:
    """Labels, stars and two scorers' scores of rows, users with very different numbers of rows and of positives."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(users), rng.integers(1, 30, users))
    taste = rng.normal(size=users)[owner]
    truth = taste + rng.normal(size=len(owner))
    common = truth + rng.normal(scale=noise, size=len(owner))
    return {
        "owner": owner,
        "label": (truth + rng.normal(size=len(owner)) > 0.3).astype(np.float32),
        "stars": truth,
        "one": common + 0.5 * taste,
        "other": common + rng.normal(scale=0.7, size=len(owner)),
    }


def plain_bootstrap(rows: dict[str, np.ndarray], metric, seed: int, rounds: int) -> tuple[float, float]:
    """The interval of a difference by drawing users and copying their rows."""
    rng = np.random.default_rng(seed)
    of_user = [np.flatnonzero(rows["owner"] == user) for user in range(rows["owner"].max() + 1)]
    found = []
    for _ in range(rounds):
        drawn = np.concatenate([of_user[user] for user in rng.integers(0, len(of_user), len(of_user))])
        found.append(metric(drawn, "one") - metric(drawn, "other"))
    low, high = np.percentile(found, [2.5, 97.5])
    return low, high


# -- means over users --------------------------------------------------------------------------------------------------


def test_equal_metrics_do_not_differ():
    values = np.array([0.0, 1.0, 0.3, 1.0])
    assert paired_difference(values, values.copy(), 1, 200) == Difference(0, 0, 0, 1)


def test_a_constant_shift_has_no_doubt():
    values = np.random.default_rng(0).random(30)
    assert close(paired_difference(values + 0.25, values, 1, 999), 0.25, 0.25, 0.25, 1 / 1000)


def test_the_value_is_the_mean_of_the_users_differences():
    found = paired_difference(np.array([1.0, 0, 1, 1]), np.array([0.0, 0, 1, 0.5]), 1, 100)
    assert found.value == (1 + 0 + 0 + 0.5) / 4
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_swapping_the_models_swaps_the_sign():
    rng = np.random.default_rng(3)
    one, other = rng.random(50), rng.random(50)
    found, back = paired_difference(one, other, 7, 500), paired_difference(other, one, 7, 500)
    assert close(back, *swapped(found))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only all signs alike come as far
        ([1.0, 2.0, -3.0], 1),  # a sum of 0: every flip comes as far
        ([2.0, 2.0, -1.0], 4 / 8),  # of 5, 3, 1 and 1 the first two come as far as 3
        ([1.0, 0.0, 0.0], 1),  # one user tells nothing
        ([0.1, 0.2, 0.3], 2 / 8),  # sums that round differently
    ],
)
def test_the_p_value_of_three_users_is_the_enumerated_one(differences, expected):
    one = np.array(differences)
    flips = [abs(np.dot(signs, one)) for signs in itertools.product((-1, 1), repeat=3)]
    assert np.mean(np.array(flips) >= abs(one.sum()) - 1e-9) == expected
    found = paired_difference(one, np.zeros(3), 5, 20_000)
    assert found.p_value == pytest.approx(expected, abs=0.01)  # 3 standard deviations of 20,000 rounds


def test_no_p_value_is_below_one_of_the_rounds():
    assert paired_difference(np.ones(40), np.zeros(40), 1, 99).p_value == 1 / 100


def test_the_p_value_does_not_depend_on_how_many_signs_fit_at_once(monkeypatch):
    one = np.random.default_rng(2).normal(0.05, 1, 64)  # whole bytes, so that the blocks' random bits line up
    whole = paired_difference(one, np.zeros(64), 3, 501)
    monkeypatch.setattr(statistics, "SIGNS_AT_ONCE", 64 * 10)
    assert paired_difference(one, np.zeros(64), 3, 501).p_value == whole.p_value
    monkeypatch.setattr(statistics, "SIGNS_AT_ONCE", 1)
    assert paired_difference(one, np.zeros(64), 3, 501).p_value == whole.p_value


def test_many_users_agree_with_the_normal_approximation():
    rng = np.random.default_rng(8)
    one, other = rng.random(3000), rng.random(3000) + 0.012
    found, difference = paired_difference(one, other, 4, 4000), one - other
    error = difference.std() / math.sqrt(len(difference))
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)
    assert found.p_value == pytest.approx(math.erfc(abs(found.value) / error / math.sqrt(2)), abs=0.03)


def test_of_models_that_are_alike_one_in_twenty_is_called_different():
    rng = np.random.default_rng(11)
    hits = [(rng.random((2, 60)) < 0.5).astype(float) for _ in range(300)]
    found = [paired_difference(one, other, seed, 200) for seed, (one, other) in enumerate(hits)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([one.p_value < 0.05 for one in found]) < 0.085


@settings(deadline=None, max_examples=40)
@given(arrays(np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=st.integers(0, 8).map(lambda n: n / 8)))
def test_what_holds_for_any_users(values):
    one, other = values
    found = paired_difference(one, other, 1, 60)
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert (one - other).min() <= found.low <= found.high <= (one - other).max()
    assert 1 / 61 <= found.p_value <= 1
    assert close(paired_difference(other, one, 1, 60), *swapped(found))


def test_the_same_seed_repeats_and_another_does_not():
    rng = np.random.default_rng(4)
    one, other = rng.random(40), rng.random(40)
    assert paired_difference(one, other, 1, 300) == paired_difference(one, other, 1, 300)
    assert paired_difference(one, other, 1, 300) != paired_difference(one, other, 2, 300)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ([1.0, 2.0], [1.0], "shapes"),
        ([1.0], [0.0], "two users"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "two users"),
        ([1.0, np.nan], [1.0, 1.0], "finite"),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused(one, other, words):
    with pytest.raises(ValueError, match=words):
        paired_difference(np.array(one), np.array(other), 1, 10)


# -- AUC ---------------------------------------------------------------------------------------------------------------


def auc_difference(rows: dict[str, np.ndarray], seed: int = 5, rounds: int = 400) -> Difference:
    return paired_auc_difference(rows["label"], rows["one"], rows["other"], rows["owner"], seed, rounds)


def test_the_auc_difference_by_hand():
    label, owner = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    right, half = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.9, 0.9, 0.9, 0.9])
    # every resample of the two users has one AUC of 1 and one of a half
    assert close(paired_auc_difference(label, right, half, owner, 1, 50), 0.5, 0.5, 0.5, 0)


def test_equal_scorers_have_no_auc_difference():
    rows = judged_rows(1)
    assert auc_difference({**rows, "other": rows["one"]}) == Difference(0, 0, 0, 1)
    # neither does another scale, as only the order counts
    assert auc_difference({**rows, "other": 3 * rows["one"] + 1}) == Difference(0, 0, 0, 1)


def test_the_auc_difference_agrees_with_resampled_rows():
    rows = judged_rows(2)
    found = auc_difference(rows, rounds=2000)
    low, high = plain_bootstrap(rows, lambda drawn, name: auc(rows["label"][drawn], rows[name][drawn]), 9, 600)
    width = high - low
    expected = auc(rows["label"], rows["one"]) - auc(rows["label"], rows["other"])
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low == pytest.approx(low, abs=0.15 * width)
    assert found.high == pytest.approx(high, abs=0.15 * width)
    deviations = abs(found.value) / (width / (2 * 1.96))
    assert found.p_value == pytest.approx(math.erfc(deviations / math.sqrt(2)), abs=0.05)


def test_the_paired_interval_is_narrower_than_that_of_scorers_who_share_nothing():
    """What all scorers find hard about a user cancels out."""
    alike = judged_rows(3, noise=2)
    width = auc_difference(alike).high - auc_difference(alike).low
    chance = {**alike, "other": np.random.default_rng(0).normal(size=len(alike["owner"]))}
    assert width < 0.8 * (auc_difference(chance).high - auc_difference(chance).low)


def test_a_resample_without_positives_does_not_count():
    label, owner = np.array([1, 0, 0, 0]), np.array([0, 0, 1, 2])
    found = paired_auc_difference(label, np.array([0.9, 0.1, 0.2, 0.3]), np.array([0.2, 0.1, 0.3, 0.4]), owner, 1, 200)
    assert found.value == pytest.approx(1 - 1 / 3)
    assert all(math.isfinite(number) for number in (found.low, found.high, found.p_value))


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 0, 0]])
def test_rows_of_one_label_are_refused(label):
    with pytest.raises(ValueError, match="both labels"):
        paired_auc_difference(np.array(label), np.zeros(3), np.zeros(3), np.arange(3), 1, 10)


@pytest.mark.parametrize(
    ("one", "owner", "words"),
    [
        ([0.1, np.nan], [0, 1], "not a number"),
        ([0.1], [0, 1], "shapes"),
        ([0.1, 0.2], [0, 0], "two users"),
        ([0.1, 0.2], [0], "shapes"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(one, owner, words):
    with pytest.raises(ValueError, match=words):
        paired_auc_difference(np.array([0, 1]), np.array(one), np.zeros(2), np.array(owner), 1, 10)
    with pytest.raises(ValueError, match=words.replace("not a number", "finite")):
        paired_rmse_difference(np.zeros(2), np.array(one), np.zeros(2), np.array(owner), 1, 10)


# -- RMSE --------------------------------------------------------------------------------------------------------------


def rmse_difference(rows: dict[str, np.ndarray], seed: int = 5, rounds: int = 400) -> Difference:
    return paired_rmse_difference(rows["stars"], rows["one"], rows["other"], rows["owner"], seed, rounds)


def test_the_rmse_difference_by_hand():
    stars, owner = np.array([4.0, 2.0, 3.0, 5.0]), np.array([0, 0, 1, 1])
    far, near = np.array([3, 0, 0, 3]), np.array([1, -1, -1, 1])
    found = paired_rmse_difference(stars, stars + far, stars + near, owner, 1, 50)
    # sqrt(18 / 4) - sqrt(4 / 4), and the same of every resample of the two users
    expected = math.sqrt(4.5) - 1
    assert close(found, expected, expected, expected, 0)


def test_the_rmse_of_all_rows_counts_and_not_the_mean_over_users():
    found = paired_rmse_difference(np.zeros(4), np.array([2.0, 0, 0, 0]), np.zeros(4), np.array([0, 1, 1, 1]), 1, 50)
    assert found.value == 1


def test_equal_predictions_have_no_rmse_difference():
    rows = judged_rows(1)
    assert rmse_difference({**rows, "other": rows["one"]}) == Difference(0, 0, 0, 1)
    mirrored = 2 * rows["stars"] - rows["one"]  # the same errors with the other sign, but for rounding
    assert close(rmse_difference({**rows, "other": mirrored}), 0, 0, 0, 1)


def test_the_rmse_difference_agrees_with_resampled_rows():
    rows = judged_rows(2)
    found = rmse_difference(rows, rounds=2000)

    def rmse_of(drawn: np.ndarray, name: str) -> float:
        return math.sqrt(((rows[name] - rows["stars"])[drawn] ** 2).mean())

    low, high = plain_bootstrap(rows, rmse_of, 9, 1500)
    everything = np.arange(len(rows["owner"]))
    assert found.value == pytest.approx(rmse_of(everything, "one") - rmse_of(everything, "other"))
    assert found.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high == pytest.approx(high, abs=0.15 * (high - low))


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [auc_difference, rmse_difference])
def test_the_order_of_the_rows_does_not_matter(of):
    rows = judged_rows(4)
    order = np.random.default_rng(0).permutation(len(rows["owner"]))
    found, shuffled = of(rows), of({name: values[order] for name, values in rows.items()})
    assert close(shuffled, found.value, found.low, found.high, found.p_value)


@pytest.mark.parametrize("of", [auc_difference, rmse_difference])
def test_swapping_the_scorers_swaps_the_sign(of):
    rows = judged_rows(5)
    assert close(of({**rows, "one": rows["other"], "other": rows["one"]}), *swapped(of(rows)))


# -- in words ----------------------------------------------------------------------------------------------------------

CLEAR = Difference(0.012, 0.004, 0.02, 0.003)


def test_the_better_model_is_named_first():
    sentence = "DLRM is better than NCF: HR@10 higher by 0.012 (95 % interval 0.004 to 0.020, p = 0.003, one split), "
    sentence += "so this is very likely."
    assert verdict("DLRM", "NCF", "HR@10", CLEAR) == sentence
    assert verdict("NCF", "DLRM", "HR@10", Difference(-0.012, -0.02, -0.004, 0.003)) == sentence


def test_where_less_is_better_the_lower_one_is_better():
    sentence = "NCF is better than DLRM: RMSE lower by 0.012 (95 % interval 0.004 to 0.020, p = 0.003, one split), "
    sentence += "so this is very likely."
    assert verdict("DLRM", "NCF", "RMSE", CLEAR, higher_is_better=False) == sentence
    other_way = Difference(-0.012, -0.02, -0.004, 0.003)
    assert verdict("NCF", "DLRM", "RMSE", other_way, higher_is_better=False) == sentence


@pytest.mark.parametrize(
    ("p_value", "words"),
    [
        (0.0, "p < 0.001, 3 splits), so this is practically certain."),
        (0.00099, "p < 0.001, 3 splits), so this is practically certain."),
        (0.001, "p = 0.001, 3 splits), so this is very likely."),
        (0.0034, "p = 0.0034, 3 splits), so this is very likely."),
        (0.01, "p = 0.01, 3 splits), so this is likely."),
        (0.049, "p = 0.049, 3 splits), so this is likely."),
    ],
)
def test_the_words_for_how_sure_it_is(p_value, words):
    difference = Difference(0.012, 0.004, 0.02, p_value)
    assert verdict("A", "B", "AUC", difference, basis=Basis(splits=3)).endswith(words)


@pytest.mark.parametrize("p_value", [0.0, 1e-9, 0.0009])
def test_of_one_split_nothing_is_practically_certain(p_value):
    difference = Difference(0.012, 0.004, 0.02, p_value)
    for basis, words in ((Basis(), "one split"), (Basis(is_only_split=True), "the only split")):
        found = verdict("A", "B", "AUC", difference, basis=basis)
        assert found.endswith(f"(95 % interval 0.004 to 0.020, p < 0.001, {words}), so this is very likely.")


@pytest.mark.parametrize(
    "difference",
    [
        Difference(0.012, 0.004, 0.02, 0.05),
        Difference(0.012, -0.001, 0.025, 0.03),
        Difference(0.012, 0.0, 0.025, 0.03),
        Difference(0.0, 0.0, 0.0, 1.0),
    ],
)
def test_without_both_a_small_p_value_and_an_interval_beside_zero_no_model_is_called_better(difference):
    assert verdict("A", "B", "AUC", difference).startswith("No difference can be told between A and B: AUC differs by ")


def test_no_difference_in_words():
    sentence = "No difference can be told between DLRM and NCF: HR@10 differs by 0.002 "
    sentence += "(95 % interval -0.006 to 0.010, p = 0.62, one split)."
    assert verdict("DLRM", "NCF", "HR@10", Difference(0.002, -0.006, 0.01, 0.62)) == sentence
    assert "differs by 0.000 (95 % interval -0.006" in verdict("A", "B", "C", Difference(-1e-5, -0.006, 0.01, 0.9))
    assert verdict("A", "B", "C", Difference(0, 0, 0, 1)).endswith(
        "0.000 (95 % interval 0.000 to 0.000, p = 1, one split)."
    )


def test_how_many_training_seeds_there_were_is_said_if_asked():
    for count, words in ((5, "5 training seeds each"), (1, "1 training seed each")):
        assert f"p = 0.003, {words}, one split)" in verdict("A", "B", "AUC", CLEAR, basis=Basis(seeds=count))


def test_how_many_pairs_the_p_value_is_corrected_for_is_said():
    found = verdict("A", "B", "AUC", CLEAR, basis=Basis(seeds=2, splits=4, pairs=45))
    assert "p = 0.003 corrected for 45 pairs, 2 training seeds each, 4 splits)" in found


def test_small_differences_do_not_print_as_zero():
    found = verdict("A", "B", "AUC", Difference(0.0003, 0.0001, 0.0005, 0.003))
    assert "higher by 0.0003 (95 % interval 0.0001 to 0.0005, p = 0.003, one split)" in found
