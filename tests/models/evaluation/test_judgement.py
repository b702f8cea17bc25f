"""Both protocols' questions put to scorers whose answers are known."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from models.data.features import Features
from models.data.interactions import Candidates, Interactions
from models.data.load import load_features
from models.evaluation.evaluate import judged
from models.evaluation.judgement import Asked, PerRow, ScorePairs, Scorer, judge_rows, owners
from models.evaluation.ranking import MOST_USERS, sampled_metrics
from models.evaluation.results import Result
from models.evaluation.scorers import pair_scorer
from models.networks.base import build
from models.networks.dlrm import DLRMSettings
from models.protocols.base import PROTOCOLS
from models.training.train import CONFIG_FORMAT, TrainedConfig
from tests.models.ranked import among_all_movies

FIRST, RATED, NEVER_RATED = 3, 30, 2  # movie indices 3 to 32 are rated, 33 and 34 are not
USERS = 3 + 8


def questions(negatives: int = 20, padding: int = 0) -> Candidates:
    """User u is asked about movie u against the movies from 12 on."""
    user = np.arange(3, USERS)
    others = np.concatenate([np.arange(12, 12 + negatives), np.full(padding, -1)])
    return Candidates(user, user.copy(), np.tile(others, (len(user), 1)), np.zeros(len(user), int))


def features_in(folder: Path) -> Features:
    """Features of hand-made splits: user u has rated movies u + 1 and u + 2 in train, u + 3 in valid, u in test."""
    user = np.arange(3, USERS)
    for part, distances in (("train", (1, 2)), ("valid", (3,)), ("test", (0,))):
        rows = pd.concat([pd.DataFrame({"user_index": user, "movie_index": user + distance}) for distance in distances])
        (folder / part).mkdir(parents=True)
        rows.astype("int32").to_parquet(folder / part / "part_0.parquet", index=False)
    return Features(
        protocol="leave-one-out",
        dataset="synthetic",
        folder=folder,
        schema=None,
        side=None,
        user_embeddings=USERS,
        movie_embeddings=FIRST + RATED,
        users=USERS,
        movies=FIRST + RATED + NEVER_RATED,
        rated_movies=RATED,
        fingerprint="synthetic",
        label=PROTOCOLS["leave-one-out"].label,
    )


def interactions(user: np.ndarray, movie: np.ndarray, label: np.ndarray) -> Interactions:
    """Rows whose other columns do not matter here."""
    given = {"user": torch.tensor(user), "movie": torch.tensor(movie), "label": torch.tensor(label).float()}
    unused = torch.zeros_like(given["user"])
    return Interactions(**{column.name: given.get(column.name, unused) for column in fields(Interactions)})


def random_split_metrics(scores: np.ndarray, rows: Interactions, is_probability: bool) -> PerRow:
    """Random-split's metrics of the scores of rows."""
    return judge_rows("classification", rows.label.numpy(), scores, owners(rows), is_probability)


def scored(rows: Interactions, score: ScorePairs, is_probability: bool = True) -> PerRow:
    """Random-split's metrics of a scorer of pairs."""
    return random_split_metrics(score(rows.user.numpy(), rows.movie.numpy()), rows, is_probability)


def of_pairs(score: ScorePairs, is_probability: bool) -> Scorer:
    """A scorer of pairs as a test set asks it."""
    return Scorer(lambda _: Asked(score), lambda rows: score(rows.user.numpy(), rows.movie.numpy()), is_probability)


def perfect(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    """Knows that user u is held out movie u."""
    return (user == movie).astype(np.float32)


def constant(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    return np.full(len(user), 0.5, np.float32)


def high_numbers_first(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    return movie.astype(np.float32)


def low_numbers_first(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    return -movie.astype(np.float32)


def as_noise(seed: int):
    table = np.random.default_rng(seed).random((USERS, FIRST + RATED + NEVER_RATED)).astype(np.float32)
    return lambda user, movie: table[user, movie]


# -- leave-one-out, sampled --------------------------------------------------------------------------------------------


def test_a_perfect_scorer_gets_everything():
    assert sampled_metrics(perfect, questions()).means() == {"auc": 1, "hr@10": 1, "ndcg@10": 1, "mrr@10": 1}


def test_a_constant_scorer_gets_nothing_as_ties_count_against_it():
    assert sampled_metrics(constant, questions()).means() == {"auc": 0.5, "hr@10": 0, "ndcg@10": 0, "mrr@10": 0}


def test_the_worst_scorer_gets_nothing():
    found = sampled_metrics(high_numbers_first, questions()).means()
    assert found == {"auc": 0, "hr@10": 0, "ndcg@10": 0, "mrr@10": 0}


def test_ranks_by_hand():
    asked = Candidates(
        np.array([3, 4, 5]), np.array([20, 20, 20]), np.tile(np.r_[11:20, 21:24], (3, 1)), np.zeros(3, int)
    )
    higher = {3: 0, 4: 2, 5: 3}  # how many of 21 to 23 score above the held-out 20, by user

    def score(user, movie):
        above = np.array([higher[u] for u in user])
        return np.where((movie > 20) & (movie <= 20 + above), 2.0, np.where(movie == 20, 1.0, 0.0)).astype(np.float32)

    found = sampled_metrics(score, asked).values
    np.testing.assert_allclose(found["auc"], [1, 10 / 12, 9 / 12])
    np.testing.assert_allclose(found["hr@10"], [1, 1, 1])
    np.testing.assert_allclose(found["ndcg@10"], [1, 1 / np.log2(4), 1 / np.log2(5)])
    np.testing.assert_allclose(found["mrr@10"], [1, 1 / 3, 1 / 4])


@pytest.mark.parametrize("score", [perfect, constant, as_noise(0)])
def test_padding_counts_for_nothing_and_is_never_scored(score):
    def checked(user, movie):
        assert (movie >= FIRST).all()
        return score(user, movie)

    whole, padded = (sampled_metrics(checked, questions(12, padding)).values for padding in (0, 9))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, padded[name])


@pytest.mark.parametrize("pairs", [1, 13, 50, 10**9])
@pytest.mark.parametrize("score", [perfect, constant, as_noise(5)])
def test_sampled_metrics_do_not_depend_on_how_many_pairs_are_scored_at_once(monkeypatch, pairs, score):
    asked = questions(20, padding=4)
    whole = sampled_metrics(score, asked).values
    monkeypatch.setattr("models.evaluation.ranking.PAIRS_AT_ONCE", pairs)
    calls = []

    def counted(user, movie):
        calls.append(len(user))
        return score(user, movie)

    found = sampled_metrics(counted, asked).values
    assert found.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, found[name])
    assert sum(calls) == len(asked.user) * 21
    assert (len(calls) == 1) == (pairs == 10**9)


def test_sampled_metrics_of_a_trained_model_s_scorer_do_not_depend_on_the_blocks(prepared, monkeypatch):
    features = load_features(prepared, "leave-one-out")
    asked = features.candidates("test")
    score = pair_scorer(build("dlrm", features, DLRMSettings(dim=8), 0), torch.device("cpu"), "leave-one-out")
    whole = sampled_metrics(score, asked).means()
    monkeypatch.setattr("models.evaluation.ranking.PAIRS_AT_ONCE", 70)  # more blocks than users: some are empty
    assert sampled_metrics(score, asked).means() == pytest.approx(whole)


def test_a_scorer_that_says_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        sampled_metrics(lambda user, movie: np.full(len(user), np.nan, np.float32), questions())


# -- leave-one-out, the whole catalogue --------------------------------------------------------------------------------


def test_full_catalogue_of_the_perfect_and_the_constant_scorer(tmp_path):
    features = features_in(tmp_path)
    names = ("full_hr@10", "full_ndcg@10", "full_mrr@10")
    assert among_all_movies(perfect, features, questions(), 0).means() == dict.fromkeys(names, 1)
    assert among_all_movies(constant, features, questions(), 0).means() == dict.fromkeys(names, 0)


def test_full_catalogue_leaves_out_what_the_user_rated_in_train_and_valid(tmp_path):
    """Were the three movies above each user's own not left out, they would take three ranks."""
    features = features_in(tmp_path)

    def own_then_those_above(user, movie):
        distance = movie - user
        return np.where(distance >= 0, -np.abs(distance - 3.0), -1000.0 + distance).astype(np.float32)

    # distances 1 to 3 are rated; of the others 4, 5 score above the held-out 0, and 6 ties with it
    found = among_all_movies(own_then_those_above, features, questions(), 0).values
    np.testing.assert_allclose(found["full_ndcg@10"], 1 / np.log2(3 + 2))
    np.testing.assert_allclose(found["full_mrr@10"], 1 / (3 + 1))


def test_full_catalogue_asks_about_all_rated_movies_and_no_other(tmp_path):
    asked = set()

    def spy(user, movie):
        asked.update(zip(user.tolist(), movie.tolist()))
        return perfect(user, movie)

    among_all_movies(spy, features_in(tmp_path), questions(), 0)
    assert {movie for _, movie in asked} == set(range(FIRST, FIRST + RATED))
    # The held-out movie's rank among the movies below: none is rated, so user u has u - 3 of them above it.
    found = among_all_movies(low_numbers_first, features_in(tmp_path / "again"), questions(), 0).values
    rank = np.arange(3, USERS) - FIRST
    np.testing.assert_allclose(found["full_ndcg@10"], np.where(rank < 10, 1 / np.log2(rank + 2), 0))


def test_full_catalogue_ranks_against_those_above_by_hand(tmp_path):
    found = among_all_movies(high_numbers_first, features_in(tmp_path), questions(), 0).values
    # Movies u + 4 to 32 stand above user u's held-out movie: 26 for user 3, at least 19 for user 10.
    assert not found["full_hr@10"].any()


def test_full_catalogue_does_not_depend_on_how_many_pairs_are_scored_at_once(tmp_path, monkeypatch):
    features = features_in(tmp_path)
    whole = among_all_movies(as_noise(1), features, questions(), 0).values
    for pairs in (1, 2 * RATED + 1):
        monkeypatch.setattr("models.evaluation.ranking.PAIRS_AT_ONCE", pairs)
        found = among_all_movies(as_noise(1), features, questions(), 0).values
        for name, values in whole.items():
            np.testing.assert_array_equal(values, found[name])


def test_full_catalogue_draws_users_where_there_are_many(tmp_path, monkeypatch):
    features = features_in(tmp_path)
    every = among_all_movies(low_numbers_first, features, questions(), 0).values["full_ndcg@10"]
    monkeypatch.setitem(MOST_USERS, "test", 5)
    drawn = {}
    for seed in range(4):
        found = among_all_movies(low_numbers_first, features, questions(), seed).values["full_ndcg@10"]
        again = among_all_movies(low_numbers_first, features, questions(), seed).values["full_ndcg@10"]
        np.testing.assert_array_equal(found, again)
        assert len(found) == len(set(found)) == 5  # each user's value is different here
        assert set(found) <= set(every)
        drawn[seed] = tuple(found)
    assert len(set(drawn.values())) > 1


@pytest.mark.parametrize(("most", "users"), [(RATED * 3, 3), (RATED * 4 - 1, 3), (1, 1), (10**9, USERS - 3)])
def test_full_catalogue_draws_as_many_users_as_there_may_be_scores(tmp_path, monkeypatch, most, users):
    features = features_in(tmp_path)
    monkeypatch.setattr("models.evaluation.ranking.FULL_CATALOGUE_PAIRS", most)
    scored = []

    def spy(user, movie):
        scored.extend(user.tolist())
        return low_numbers_first(user, movie)

    found = among_all_movies(spy, features, questions(), 0).values
    assert all(len(values) == users for values in found.values())
    assert len(set(scored)) == users
    assert len(scored) == users * RATED


def test_full_catalogue_takes_questions_in_any_order(tmp_path):
    features, asked = features_in(tmp_path), questions()
    turned = Candidates(asked.user[::-1], asked.positive[::-1], asked.negatives[::-1], asked.not_before)
    for name, values in among_all_movies(as_noise(2), features, asked, 0).values.items():
        found = among_all_movies(as_noise(2), features, turned, 0).values[name]
        np.testing.assert_array_equal(values, found[::-1])


# -- random-split ------------------------------------------------------------------------------------------------------


def some_rows(seed: int, count: int = 300) -> Interactions:
    rng = np.random.default_rng(seed)
    user, movie = rng.integers(3, USERS, count), rng.integers(FIRST, FIRST + RATED, count)
    return interactions(user, movie, rng.random(count) < 0.6)


@pytest.mark.parametrize("seed", range(3))
def test_random_split_metrics_are_scikit_learns(seed):
    rows, score = some_rows(seed), as_noise(seed)
    given = score(rows.user.numpy(), rows.movie.numpy())
    found = random_split_metrics(given, rows, is_probability=True).means()
    assert found["auc"] == pytest.approx(roc_auc_score(rows.label, given), abs=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(rows.label, given.astype(np.float64)), rel=1e-9)


def test_a_score_that_is_no_probability_has_no_log_loss():
    rows = some_rows(0)
    result = scored(rows, high_numbers_first, is_probability=False)
    assert result.means().keys() == result.intervals(0).keys() == {"auc"}
    assert result.means()["auc"] == pytest.approx(roc_auc_score(rows.label, rows.movie), abs=1e-12)


def test_rows_of_a_user_are_drawn_together():
    """One user's rows are all right, the other's all wrong: the interval spans both, however many rows there are."""
    user, label = np.repeat([3, 9], 1000), np.tile([0, 1], 1000)
    rows = interactions(user, np.full(2000, FIRST), label)
    right = np.where(user == 3, label, 1 - label) * 0.8 + 0.1

    result = random_split_metrics(right.astype(np.float32), rows, is_probability=True)
    low, high = result.intervals(0)["log_loss"]
    assert low == pytest.approx(-np.log(0.9), rel=1e-5)
    assert high == pytest.approx(-np.log(0.1), rel=1e-5)
    assert result.means()["log_loss"] == pytest.approx((-np.log(0.9) - np.log(0.1)) / 2, rel=1e-5)


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_intervals_contain_the_mean(tmp_path):
    for result in (
        sampled_metrics(as_noise(3), questions()),
        among_all_movies(as_noise(3), features_in(tmp_path), questions(), 0),
        scored(some_rows(3), as_noise(3)),
    ):
        means, intervals = result.means(), result.intervals(1)
        assert means.keys() == intervals.keys()
        for name, (low, high) in intervals.items():
            assert low <= means[name] <= high, name
            assert high - low < 1 or name == "log_loss"


def test_the_intervals_of_a_perfect_scorer_have_no_width():
    intervals = sampled_metrics(perfect, questions()).intervals(0)
    assert intervals == {"auc": [1, 1], "hr@10": [1, 1], "ndcg@10": [1, 1], "mrr@10": [1, 1]}


def resampled_aucs(rows: Interactions, score: np.ndarray, seed: int, rounds: int) -> np.ndarray:
    """The bootstrap over users without a shortcut: scikit-learn's AUC of each resample's rows."""
    user = rows.user.numpy()
    position = np.searchsorted(np.unique(user), user)
    rng, users, aucs = np.random.default_rng(seed), len(np.unique(user)), []
    for _ in range(rounds):
        weight = np.bincount(rng.integers(0, users, users), minlength=users)[position]
        aucs.append(roc_auc_score(rows.label, score, sample_weight=weight))
    return np.percentile(aucs, [2.5, 97.5])


@pytest.mark.parametrize("quality", [0.3, 1.5])
def test_the_interval_of_the_auc_is_that_of_a_plain_bootstrap(monkeypatch, quality):
    """300 users with tastes of their own, so that a user's rows go together, and from 5 to 40 rows."""
    rng = np.random.default_rng(11)
    user = np.repeat(np.arange(3, 303), rng.integers(5, 41, 300))
    generous, easy = rng.normal(size=400)[user], rng.normal(size=400)[user]
    truth = 0.5 + generous + rng.logistic(size=len(user))
    label = truth > 0
    score = 1 / (1 + np.exp(-(quality * truth / 2 + easy + rng.normal(size=len(user))).round(1)))
    rows = interactions(user, np.full(len(user), FIRST), label)
    rounds = 300
    monkeypatch.setattr("models.evaluation.judgement.BOOTSTRAP_ROUNDS", rounds)
    result = random_split_metrics(score, rows, is_probability=True)
    low, high = result.intervals(2)["auc"]
    expected_low, expected_high = resampled_aucs(rows, score, 2, rounds)
    width = expected_high - expected_low
    assert 0.02 < width < 0.2
    assert expected_low < result.means()["auc"] < expected_high
    assert low == pytest.approx(expected_low, abs=0.1 * width)
    assert high == pytest.approx(expected_high, abs=0.1 * width)
    assert high - low == pytest.approx(width, rel=0.15)


def test_the_interval_of_a_perfect_auc_has_no_width():
    rows = some_rows(1)
    result = random_split_metrics(rows.label.numpy() * 0.8 + 0.1, rows, is_probability=True)
    assert result.means()["auc"] == 1
    assert result.intervals(0)["auc"] == pytest.approx([1, 1], abs=1e-12)


def test_intervals_repeat_with_their_seed():
    result = sampled_metrics(as_noise(4), questions())
    assert result.intervals(5) == result.intervals(5)
    assert result.intervals(5) != result.intervals(6)


# -- an entry of evaluation.json ---------------------------------------------------------------------------------------

ENTRY = {
    "model", "protocol", "metrics", "ci95", "seed", "epochs", "train_seconds", "samples_per_second", "versions"
}  # fmt: skip
CONFIG = TrainedConfig(
    format=CONFIG_FORMAT,
    model="oracle",
    protocol="leave-one-out",
    dataset="ml-latest-small",
    settings={},
    seed=7,
    epochs=3,
    best_epoch=2,
    monitor="ndcg@10",
    validation={},
    trained_on=["train"],
    train_seconds=1.5,
    samples_per_second=1000,
    weights=1,
    device="cpu",
    threads=1,
    versions={},
)


def filled(entry: Result) -> set[str]:
    """The fields of a result that have a value."""
    return {field.name for field in fields(entry) if getattr(entry, field.name) is not None}


def test_an_entry_of_leave_one_out(prepared):
    features = load_features(prepared, "leave-one-out")
    held_out = features.candidates("test")
    answer = dict(zip(held_out.user.tolist(), held_out.positive.tolist()))

    def oracle(user, movie):
        return np.array([answer[u] == m for u, m in zip(user.tolist(), movie.tolist())], np.float32)

    entry = judged("oracle", of_pairs(oracle, True), features, 11, CONFIG)
    assert filled(entry) == ENTRY | {"test_users", "full_catalogue_users", "others", "slices", "coverage"}
    names = {"auc", "hr@10", "ndcg@10", "mrr@10", "full_hr@10", "full_ndcg@10", "full_mrr@10"}
    assert entry.metrics == dict.fromkeys(names, 1)
    assert entry.ci95 == dict.fromkeys(names, (1, 1))
    assert (entry.model, entry.protocol, entry.seed) == ("oracle", "leave-one-out", 11)
    assert (entry.epochs, entry.train_seconds, entry.samples_per_second) == (3, 1.5, 1000)
    assert entry.test_users == entry.full_catalogue_users == len(held_out.user) == 60
    assert set(entry.versions) == {"torch", "merlin-models", "nvtabular", "numpy"}


@pytest.mark.parametrize("is_probability", [True, False])
def test_an_entry_of_random_split(prepared, is_probability):
    features = load_features(prepared, "random-split")
    rows = features.interactions("test")
    entry = judged("half", of_pairs(constant, is_probability), features, 11, None)
    assert filled(entry) == ENTRY | {"test_rows", "slices"}
    assert entry.test_rows == len(rows)
    assert entry.metrics["auc"] == 0.5
    assert entry.metrics.keys() == entry.ci95.keys() == ({"auc", "log_loss", "ece"} if is_probability else {"auc"})
    if is_probability:
        assert entry.metrics["log_loss"] == pytest.approx(np.log(2))
        assert entry.ci95["log_loss"] == pytest.approx((np.log(2), np.log(2)))
    assert (entry.epochs, entry.train_seconds, entry.samples_per_second) == (0, 0, 0)
