"""The temporal protocol from ratings to figures: it finds nothing in noise, nor in what only the future knows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from core.columns import TIMESTAMP
from core.run_folder import Run
from marquee.result_tables import comparison_tables
from models.baselines.base import baselines_of
from models.data.history import timeline
from models.data.interactions import Candidates
from models.data.load import load_features
from models.evaluation.evaluate import evaluate
from models.evaluation.judgement import Asked, Scorer, scorer_of
from models.evaluation.notes import notes
from models.evaluation.results import read_results
from models.protocols.base import PROTOCOLS
from models.registry import default_settings, fit_baseline
from models.training.loop import REFIT
from models.training.settings import settings_for
from models.training.train import train
from tests.models.test_leakage import FEATURE_SETS, judged, wide, write_noise
from tests.names import FOLDS, NETWORKS, RATING, TEMPORAL
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.vocabulary import FIRST_INDEX
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.splits.base import PARTS, read_split

CPU = torch.device("cpu")
FULL_FIGURES = ("full_hr@10", "full_ndcg@10", "full_mrr@10")


def prepared(raw: Path, runs: Path, *splits: str) -> Run:
    run = Run(runs / "ml-1m")
    fetch_tables(get_dataset("ml-1m"), raw, run.tables, lambda _: None)
    for split in splits:
        prepare(run, split, PrepareSettings(), lambda *_: None)
    return run


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("noise")
    return prepared(write_noise(folder / "raw"), folder / "runs", TEMPORAL)


@pytest.fixture(scope="module")
def fashions(tmp_path_factory) -> Run:
    """Up to some moment people rate the first 100 movies, from then on four others; a third of the people are new."""
    folder = tmp_path_factory.mktemp("fashions")
    raw, rng = write_noise(folder / "raw"), np.random.default_rng(1)
    lines = []
    for user in range(1, 301):
        early, late = rng.choice(100, 40, replace=False) + 1, rng.choice(4, 3, replace=False) + 197
        if user % 3:
            lines += [f"{user}::{movie}::4::{rng.integers(0, 8_000) + 900_000_000}" for movie in early]
        lines += [f"{user}::{movie}::4::{rng.integers(9_000, 10_000) + 900_000_000}" for movie in late]
    (raw / "ratings.dat").write_text("\n".join(lines) + "\n")
    return prepared(raw, folder / "runs", TEMPORAL, "leave-one-out")


# -- what it must not find ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what", FEATURE_SETS)
def test_of_movies_that_are_noise_nothing_is_learnt(noise, what):
    metrics, intervals = judged(noise, TEMPORAL, *FEATURE_SETS[what])
    for metric, guess in (("hr@10", 0.1), ("auc", 0.5)):
        low, high = wide(intervals[metric])
        assert low < guess < high, metrics
        assert high - low < 0.15


@pytest.mark.parametrize("name", [name for name in baselines_of(TEMPORAL) if name != "truth"])
def test_of_noise_no_baseline_learns_either(noise, name):
    features = load_features(noise, TEMPORAL)
    scorer = fit_baseline(name, features, REFIT, default_settings(TEMPORAL, name, "ml-100k", 0).settings, 0)
    low, high = wide(PROTOCOLS[TEMPORAL].test(scorer_of(scorer), features, 0)[0].intervals(0)["hr@10"])
    assert low < 0.1 < high


def popularity(run: Run, protocol: str) -> float:
    """AUC of popularity, of train and validation."""
    features = load_features(run, protocol)
    scorer = fit_baseline("popularity", features, REFIT, baselines_of(protocol)["popularity"].settings(), 0)
    return PROTOCOLS[protocol].test(scorer_of(scorer), features, 0)[0].means()["auc"]


def test_what_becomes_popular_later_is_not_known(fashions):
    """Leave-one-out knows from other people's later ratings which movies are in fashion; here nothing says so."""
    assert popularity(fashions, "leave-one-out") > 0.6
    assert popularity(fashions, TEMPORAL) < 0.5


@pytest.mark.parametrize("run", ["noise", "fashions"])
def test_nothing_that_a_model_is_fitted_to_is_later_than_what_it_is_asked(run, request):
    found = request.getfixturevalue(run)
    features = load_features(found, TEMPORAL)
    time = {part: read_split(features.folder, part, [TIMESTAMP])[TIMESTAMP].to_numpy() for part in PARTS}
    assert time["train"].max() < time["valid"].min()
    assert time["valid"].max() < time["test"].min()
    before = timeline(features, REFIT, 50).lengths().sum()  # of every history that a network can see
    assert before == len(time["train"]) + len(time["valid"])


def test_the_movies_that_a_movie_is_ranked_among_were_not_rated_before(fashions):
    features = load_features(fashions, TEMPORAL)
    questions = features.candidates("test")
    assert len(set(questions.user)) == len(questions.user)
    user, movie = features.seen(*PARTS)
    rated = set(zip(user.tolist(), movie.tolist()))
    for owner, negatives in zip(questions.user.tolist(), questions.negatives):
        assert not {(owner, one) for one in negatives.tolist()} & rated


# -- known and new people ----------------------------------------------------------------------------------------------


def test_the_figures_without_new_people_by_hand():
    """Four users, of whom 3 and 5 have rated before; of 12 movies each wants the one that is as far up as said."""
    places = {3: 0, 4: 1, 5: 9, 6: 11}  # how many movies score above the held-out one
    users, movies = np.array([3, 4, 5, 6]), np.arange(FIRST_INDEX, FIRST_INDEX + 20)
    held_out = np.array([movies[places[user]] for user in users])
    features = SimpleNamespace(
        candidates=lambda part: Candidates(users, held_out, np.tile(movies[-12:], (4, 1)), np.zeros(4, int)),
        catalogue=movies,
        users=7,
        seen=lambda *parts: (np.array([3, 5, 5]), movies[[19, 19, 18]]),
    )
    scorer = Scorer(lambda _: Asked(lambda user, movie: -movie.astype(np.float32)), None, False)
    *_, full, known = PROTOCOLS[TEMPORAL].test(scorer, features, 0)
    assert (full.counted_as, full.count) == ("full_catalogue_users", 4)
    assert (known.counted_as, known.count) == ("known_users", 2)
    assert full.means()["full_hr@10"] == 3 / 4
    assert known.means()["known_full_hr@10"] == 1
    np.testing.assert_allclose(known.values["known_full_ndcg@10"], [1, 1 / np.log2(11)])
    assert {f"known_{name}" for name in full.values} == set(known.values)


@pytest.mark.slow
def test_evaluation_json_has_all_people_and_known_people(fashions, tmp_path):
    run = Run(tmp_path / fashions.root.name)
    run.root.mkdir()
    for place in ("tables", "features"):
        (run.root / place).symlink_to(fashions.root / place)
    train(run, TEMPORAL, "mf", settings_for(TEMPORAL, "mf", epochs=1, batch_size=256), CPU, lambda *_: None)
    assert evaluate(run, CPU, lambda *_: None)
    results = read_results(run)
    assert [result.model for result in results] == ["mf", "ease", "als", "itemknn", "popularity"]
    questions = load_features(run, TEMPORAL).candidates("test")
    for result in results:
        ranks = pd.read_parquet(run.kept(TEMPORAL, result.model) / "full.parquet")
        assert result.known_users == ranks["known"].sum()
        assert result.metrics["known_full_hr@10"] == pytest.approx((ranks["rank"][ranks["known"]] < 10).mean())
        assert result.protocol == TEMPORAL
        assert result.test_users == result.full_catalogue_users == len(questions.user)
        assert 0 < result.known_users < result.full_catalogue_users
        for name in FULL_FIGURES:
            for figure in (name, f"known_{name}"):
                low, high = result.ci95[figure]
                assert low <= result.metrics[figure] <= high
    (table,) = comparison_tables(run)
    known = [f"{title}\nall movies\nknown people" for title in ("HR@10", "NDCG@10", "MRR@10")]
    assert list(table.headings)[-4:-1] == known
    assert table.title.startswith("What will they watch from a date on?")
    assert notes(TEMPORAL, [vars(result) for result in results]) == []


def test_without_a_known_user_the_figures_say_why_they_are_not_there():
    users, movies = np.array([3, 4]), np.arange(FIRST_INDEX, FIRST_INDEX + 20)
    features = SimpleNamespace(
        candidates=lambda part: Candidates(users, movies[:2], np.tile(movies[-12:], (2, 1)), np.zeros(2, int)),
        catalogue=movies,
        users=7,
        seen=lambda *parts: (np.array([5]), movies[:1]),
    )
    scorer = Scorer(lambda _: Asked(lambda user, movie: -movie.astype(np.float32)), None, False)
    *_, known = PROTOCOLS[TEMPORAL].test(scorer, features, 0)
    assert known.means() == dict.fromkeys(known.values)
    assert known.intervals(0) == dict.fromkeys(known.values)
    assert known.undefined()["known_full_hr@10"] == "there are no users"


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "like"), [(TEMPORAL, "leave-one-out"), *((fold, RATING) for fold in FOLDS)], ids=[TEMPORAL, *FOLDS]
)
@pytest.mark.parametrize("dataset", ["ml-100k", "ml-1m", "ml-25m"])
def test_the_default_settings_are_those_of_the_protocol_that_it_is_like(protocol, like, dataset):
    for name in (*NETWORKS, *(one for one in baselines_of(protocol))):
        assert default_settings(protocol, name, dataset, 0) == default_settings(like, name, dataset, 0)


def test_defaults_of_its_own_come_first(tmp_path, monkeypatch):
    from core.json_files import write_json

    monkeypatch.setattr("models.training.settings.DEFAULTS", tmp_path)
    shipped = {RATING: {"mf": {"settings": {"epochs": 3}}, "dlrm": {"settings": {"epochs": 4}}}}
    write_json(tmp_path / "ml-100k.json", {**shipped, "rating-u2": {"mf": {"settings": {"epochs": 9}}}})
    found = {
        (one, name): settings_for(one, name).epochs for one in ("rating-u1", "rating-u2") for name in ("mf", "dlrm")
    }
    assert found == {("rating-u1", "mf"): 3, ("rating-u1", "dlrm"): 4, ("rating-u2", "mf"): 9, ("rating-u2", "dlrm"): 4}


def test_the_tables_of_the_other_protocols_are_as_they_were():
    from models.evaluation.metrics.base import columns_of

    for name, protocol in PROTOCOLS.items():
        extra = [heading for heading in protocol.columns if heading not in columns_of(protocol.task)]
        assert [figure for _, figure in extra] == ([f"known_{one}" for one in FULL_FIGURES] if name == TEMPORAL else [])


def test_every_protocol_and_every_column_has_a_meaning():
    from models.evaluation.meanings import PROTOCOL_MEANINGS, meaning_of

    for name, protocol in PROTOCOLS.items():
        assert PROTOCOL_MEANINGS[name].endswith(".")
        assert all(len(meaning_of(protocol.task, figure)) > 30 for _, figure in protocol.columns)
    said = meaning_of("ranking", "known_full_hr@10")
    assert said.startswith("Hit rate: ")
    assert said.endswith(
        "Among all movies that the user has not rated. Without the people who had rated nothing before the test. "
        "Higher is better."
    )


def test_a_fold_asks_for_the_stars_of_its_block_of_the_file(noise, tmp_path):
    run = Run(tmp_path / noise.root.name)
    run.root.mkdir()
    run.tables.symlink_to(noise.tables)
    prepare(run, "u3", PrepareSettings(), lambda *_: None)
    features = load_features(run, "rating-u3")
    ratings = pd.read_parquet(run.tables / "ratings.parquet")
    block = ratings.iloc[2 * len(ratings) // 5 : 3 * len(ratings) // 5]
    asked = PROTOCOLS["rating-u3"].questions(features, "test")
    assert asked.stars.tolist() == block["rating"].tolist()
    assert asked.label.tolist() == asked.stars.tolist()
