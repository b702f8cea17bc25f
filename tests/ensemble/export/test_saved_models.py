"""SavedModels of the trained networks: whole, from ids to scores, and as the networks score."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from core.artifacts import verify
from core.errors import UserError
from ensemble.export.saved_models import write_saved_models
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.tensorflow.base import TWINS
from models.tensorflow.twins.ncf import NCFTwin
from models.training.train import load
from tests.ensemble.export.conftest import PROTOCOL, vocabulary
from tests.names import COMPARED
from workflows.features.vocabulary import OUT_OF_VOCABULARY

UNKNOWN = 999_999


def silent(*_: object) -> None:
    """Hears nothing."""


@pytest.mark.slow
def test_a_saved_model_answers_ids_as_the_trained_network_does(run):
    names = write_saved_models(run, PROTOCOL, silent)
    assert names == list(COMPARED)
    verify(run.saved_models)
    features = load_features(run, PROTOCOL)
    users, movies = (vocabulary(run, kind) for kind in ("user", "movie"))
    rng = np.random.default_rng(1)
    user, movie = (table.iloc[rng.integers(0, len(table), 200)] for table in (users, movies))
    asked = {
        "user_id": tf.constant([UNKNOWN, *user.user_id], tf.int64),
        "movie_id": tf.constant([UNKNOWN, *movie.movie_id], tf.int64),
    }
    for name in names:
        network, _ = load(run, features, name, torch.device("cpu"))
        score = pair_scorer(network, torch.device("cpu"), PROTOCOL)
        indices = [np.array([OUT_OF_VOCABULARY, *table["index"]], np.int64) for table in (user, movie)]
        folder = run.saved_models / name
        saved = tf.saved_model.load(str(folder / "1" / "model.savedmodel")).signatures["serving_default"]
        found = saved(**asked)["score"].numpy()
        np.testing.assert_allclose(found, score(*indices), atol=1e-6)
        assert found.std() > 5e-5
        assert 'platform: "tensorflow_savedmodel"' in (folder / "config.pbtxt").read_text()


@pytest.mark.slow
def test_it_is_written_once_and_only_where_it_scores_as_the_network_does(run, monkeypatch):
    class Wrong(NCFTwin):
        def scores(self, inputs):
            return super().scores(inputs) + 0.01

    with monkeypatch.context() as patched:
        patched.setitem(TWINS._entries, "ncf", (1, Wrong))
        with pytest.raises(UserError, match=r"the SavedModel of ncf scores .* apart"):
            write_saved_models(run, PROTOCOL, silent)
    assert not run.saved_models.exists()
    write_saved_models(run, PROTOCOL, silent)
    before = run.saved_models.stat().st_mtime_ns
    write_saved_models(run, PROTOCOL, silent)
    assert run.saved_models.stat().st_mtime_ns == before
