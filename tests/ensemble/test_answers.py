"""The serving logic on an exported repository, without Triton."""

import ast
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.serving import answers as source
from ensemble.serving.answers import Answers, BadRequest
from marquee.manifest import read_json
from marquee.runs import MODELS

UNKNOWN = (-1, 0, 2, 10**9, 2**62)  # no user (odd) and no movie (a multiple of ten from 10) has one of these ids


@pytest.fixture(scope="module")
def score_answers(exported) -> Answers:
    return Answers(exported.repository / "score" / "1")


@pytest.fixture(scope="module")
def recommend_answers(exported) -> Answers:
    return Answers(exported.repository / "recommend" / "1")


@pytest.fixture(scope="module")
def offline(exported):
    """Scores by the trained network of raw ids: `offline(model, user_ids, movie_ids)`."""
    import torch

    from models.data import load_features
    from models.scoring import scorer
    from models.training import load

    features = load_features(exported, "leave-one-out")
    score = {
        name: scorer(load(exported, features, name, torch.device("cpu"))[0], torch.device("cpu")) for name in MODELS
    }

    def indices(kind: str, ids: np.ndarray) -> np.ndarray:
        table = pd.read_parquet(features.folder / "vocabulary" / f"{kind}_id.parquet")
        index = dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist()))
        return np.array([index.get(raw, 2) for raw in ids.tolist()], np.int64)

    return lambda name, user, movie: score[name](indices("user", user), indices("movie", movie))


def ratings(run) -> pd.DataFrame:
    return pd.read_parquet(run.tables / "ratings.parquet")


def random_ids(run, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Known and unknown ids, with repeats, in no order."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([pd.read_parquet(run.tables / "users.parquet")["userId"], UNKNOWN])
    movies = np.concatenate([pd.read_parquet(run.tables / "movies.parquet")["movieId"], UNKNOWN])
    return rng.choice(users, size), rng.choice(movies, size)


# -- score -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_are_those_of_the_trained_network(exported, score_answers, offline, name, size):
    for seed in range(3):
        user, movie = random_ids(exported, seed, size)
        found, _ = score_answers.score(user, movie, name)
        assert found.dtype == np.float32
        assert found.shape == (size,)
        np.testing.assert_allclose(found, offline(name, user, movie), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_the_two_models_and_the_pairs_differ(exported, score_answers, name):
    user, movie = random_ids(exported, 0, 300)
    other = MODELS[1 - MODELS.index(name)]
    assert not np.allclose(score_answers.score(user, movie, name)[0], score_answers.score(user, movie, other)[0])
    assert np.ptp(score_answers.score(user, movie, name)[0]) > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_scores_the_same_alone_and_among_others(exported, score_answers, name):
    user, movie = random_ids(exported, 1, 50)
    together, known = score_answers.score(user, movie, name)
    for i in range(len(user)):
        alone, known_alone = score_answers.score(user[i : i + 1], movie[i : i + 1], name)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        assert known_alone[0] == known[i]


def test_many_rows_are_scored_in_parts(exported, score_answers, monkeypatch):
    user, movie = random_ids(exported, 2, 100)
    whole, _ = score_answers.score(user, movie)
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(score_answers.score(user, movie)[0], whole, atol=1e-6)


def test_known_means_rated_in_training(exported, score_answers):
    train = pd.read_parquet(exported.features / "leave-one-out" / "train" / "part_0.parquet")
    in_training = {
        kind: set(
            table.loc[table["index"].isin(train[f"{kind}_index"]), f"{kind}_id"]
        )
        for kind in ("user", "movie")
        for table in (pd.read_parquet(exported.features / "leave-one-out" / "vocabulary" / f"{kind}_id.parquet"),)
    }  # fmt: skip
    user, movie = random_ids(exported, 3, 2000)
    _, known = score_answers.score(user, movie)
    expected = [u in in_training["user"] and m in in_training["movie"] for u, m in zip(user.tolist(), movie.tolist())]
    assert known.dtype == bool
    assert known.tolist() == expected
    assert 0 < known.sum() < len(known)
    assert not score_answers.score(np.array([1]), np.array([1200]))[1][0]  # the last movie has no rating


def test_all_unknown_users_score_alike(score_answers):
    movie = np.full(len(UNKNOWN), 50)
    for name in MODELS:
        found, known = score_answers.score(np.array(UNKNOWN), movie, name)
        assert np.ptp(found) < 1e-6
        assert not known.any()


def test_without_a_model_the_default_answers(exported, score_answers):
    user, movie = random_ids(exported, 4, 20)
    default = read_json(exported.repository / "manifest.json")["default_model"]
    assert score_answers.default_model == default
    np.testing.assert_array_equal(score_answers.score(user, movie)[0], score_answers.score(user, movie, default)[0])


def test_the_default_is_the_model_that_validated_better(exported, score_answers):
    value = {
        name: read_json(exported.model("leave-one-out", name) / "config.json")["validation"]["ndcg@10"]
        for name in MODELS
    }
    assert value[score_answers.default_model] == max(value.values())


def test_no_pairs_are_no_scores(score_answers):
    nothing = np.empty(0, np.int64)
    for name in MODELS:
        found, known = score_answers.score(nothing, nothing, name)
        assert (found.shape, found.dtype) == ((0,), np.float32)
        assert (known.shape, known.dtype) == ((0,), bool)


@pytest.mark.parametrize(("users", "movies"), [([1, 3], [10]), ([1], [10, 20]), ([], [10]), ([[1]], [[10]])])
def test_arrays_that_do_not_match_are_refused(score_answers, users, movies):
    with pytest.raises(BadRequest, match="shape"):
        score_answers.score(np.array(users, np.int64), np.array(movies, np.int64))


@pytest.mark.parametrize("name", ["svd", "DLRM", "../ncf", "dlrm.onnx", " "])
def test_an_unknown_model_is_refused(score_answers, name):
    with pytest.raises(BadRequest, match="choose one of dlrm, ncf"):
        score_answers.score(np.array([1]), np.array([10]), name)


# -- recommend ---------------------------------------------------------------------------------------------------------


def expected_order(run, answers: Answers, user: int) -> tuple[np.ndarray, np.ndarray]:
    """All movies in the order of their indices, without the user's own, stably sorted by their scores."""
    movies = pd.read_parquet(run.features / "leave-one-out" / "vocabulary" / "movie_id.parquet").sort_values("index")
    ids = movies["movie_id"].to_numpy()
    scores, _ = answers.score(np.full(len(ids), user), ids)
    mine = ratings(run).query("userId == @user")["movieId"]
    left = ~np.isin(ids, mine)
    order = np.argsort(-scores[left], kind="stable")
    return ids[left][order], scores[left][order]


@pytest.mark.parametrize("user", [1, 3, 59, 119])
def test_recommendations_are_the_sorted_rest_of_the_catalogue(exported, score_answers, recommend_answers, user):
    expected_ids, expected_scores = expected_order(exported, score_answers, user)
    for k in (1, 10, 50, 1000):
        movies, scores = recommend_answers.recommend(user, k)
        assert movies.tolist() == expected_ids[:k].tolist()
        np.testing.assert_array_equal(scores, expected_scores[:k])


def test_no_user_is_recommended_a_rated_movie_or_one_twice(exported, recommend_answers):
    rated = ratings(exported).groupby("userId")["movieId"].agg(set)
    assert len(rated) == 60
    for user, own in rated.items():
        movies, scores = recommend_answers.recommend(user, 1000)
        assert len(set(movies.tolist())) == len(movies) == 120 - len(own)  # more was asked for than is left
        assert not own & set(movies.tolist())
        assert (np.diff(scores) <= 0).all()
        assert movies.dtype == np.int64
        assert scores.dtype == np.float32


def test_recommended_scores_are_the_trained_network_s(exported, recommend_answers, offline):
    movies, scores = recommend_answers.recommend(7, 20)
    expected = offline(recommend_answers.default_model, np.full(20, 7), movies)
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=0)


def test_without_k_there_are_ten(recommend_answers):
    assert recommend_answers.recommend(1)[0].tolist() == recommend_answers.recommend(1, 10)[0].tolist()
    assert len(recommend_answers.recommend(1)[0]) == 10


@pytest.mark.parametrize("k", [0, -1, 1001, 1_000_000, -(2**31)])
def test_a_k_out_of_range_is_refused(recommend_answers, k):
    with pytest.raises(BadRequest, match=f"k is {k}; it must be from 1 to 1000"):
        recommend_answers.recommend(1, k)


@pytest.mark.parametrize("user", UNKNOWN)
def test_an_unknown_user_is_refused(recommend_answers, user):
    with pytest.raises(BadRequest, match=f"user {user} "):
        recommend_answers.recommend(user)


# -- what the file may use ---------------------------------------------------------------------------------------------


def test_the_file_needs_only_what_serving_has():
    allowed = {"json", "pathlib", "numpy", "onnxruntime", "pyarrow"}
    tree = ast.parse(Path(source.__file__).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module.split(".")[0])
    assert found <= allowed
    assert not {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    } & {"eval", "exec", "__import__"}


def test_what_is_exported_is_this_file(exported):
    for model in ("score", "recommend"):
        copy = exported.repository / model / "1" / "answers.py"
        assert copy.read_bytes() == Path(source.__file__).read_bytes()


def test_answers_alone_load_no_training_code(exported):
    """In a fresh interpreter, from the exported folder, as Triton does it."""
    import subprocess

    folder = exported.repository / "recommend" / "1"
    code = (
        "import sys; from pathlib import Path; sys.dont_write_bytecode = True; from answers import Answers;"
        "print(Answers(Path('.')).recommend(1, 3)[0].tolist());"
        "print([name for name in ('torch', 'merlin', 'nvtabular', 'marquee', 'models') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    movies, modules = result.stdout.splitlines()
    assert movies == str(Answers(folder).recommend(1, 3)[0].tolist())
    assert modules == "[]"
