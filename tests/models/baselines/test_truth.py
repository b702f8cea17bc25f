"""The truth of a synthetic dataset, asked by indices."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from models.baselines.base import BASELINES, NoSettings, TrainingData
from tests.models.baselines.contracts import training_data
from workflows.features.vocabulary import FIRST_INDEX
from workflows.synthetic.synthesise import synthesise
from workflows.synthetic.truth import load_truth


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> TrainingData:
    """A truth, and vocabularies that count users and movies in descending order of their ids."""
    folder = tmp_path_factory.mktemp("truth")
    synthesise(folder / "tables", "ml-25m", 0.0005, 7, lambda *_: None)
    truth = load_truth(folder / "tables")
    (folder / "vocabulary").mkdir()
    for name, ids in (("user_id", truth.user_ids), ("movie_id", truth.movie_ids)):
        pd.DataFrame({name: ids[::-1]}).to_parquet(folder / "vocabulary" / f"{name}.parquet")
    return TrainingData(
        training_data([3], [3], 0, 0).rows,
        len(truth.user_ids) + FIRST_INDEX,
        len(truth.movie_ids) + FIRST_INDEX,
        features=SimpleNamespace(folder=folder),
        tables=folder / "tables",
    )


@pytest.mark.parametrize(
    ("task", "method", "is_probability"), [("ranking", "watch", False), ("classification", "like", True)]
)
def test_the_truth_is_asked_by_movielens_ids(data, task, method, is_probability):
    truth = load_truth(data.tables)
    scorer = BASELINES[f"{task}/truth"].fit(data, NoSettings(), 0)
    assert scorer.is_probability is is_probability
    rng = np.random.default_rng(0)
    user, movie = (rng.integers(FIRST_INDEX, size, 500) for size in (data.users, data.movies))
    scores = scorer(user, movie)
    expected = getattr(truth, method)(truth.user_ids[FIRST_INDEX - user - 1], truth.movie_ids[FIRST_INDEX - movie - 1])
    np.testing.assert_array_equal(scores, expected.astype(np.float32))
    assert scores.dtype == np.float32
    one_by_one = [scorer(user[[i]], movie[[i]])[0] for i in range(20)]
    np.testing.assert_allclose(one_by_one, scores[:20], rtol=1e-6)


def test_without_tables_or_features_there_is_no_truth(data, tmp_path):
    fit = BASELINES["ranking/truth"].fit
    with pytest.raises(ValueError, match="needs the features and the folder of the tables"):
        fit(TrainingData(data.rows, data.users, data.movies), NoSettings(), 0)
    other = TrainingData(data.rows, data.users, data.movies, features=data.features, tables=tmp_path)
    with pytest.raises(UserError, match=r"holds no synth\.json"):
        fit(other, NoSettings(), 0)
