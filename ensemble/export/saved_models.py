"""Trained networks as SavedModels, for a Triton with its `tensorflow` backend, as the Merlin container has.

Each is whole: ids in, scores out, with vocabularies, side tables and histories inside.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
import torch
from absl import logging

from core.artifacts import code_digest, fingerprint, is_current, new_folder, verify
from core.columns import CONTINUOUS, HISTORY, HISTORY_STARS, MOVIE_ID, USER_ID
from core.errors import UserError
from core.run_folder import Run
from ensemble.export.configs import UNBATCHED, Input, Output, Signature
from ensemble.export.export import served
from ensemble.export.ids import kind_of, write_with_own_ids
from ensemble.parity import is_equal, largest_difference
from ensemble.triton_models.files import CONFIG, vocabulary_file
from ensemble.triton_models.lookup import Lookup
from models.data.features import Features
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.networks.base import CONTINUOUS_BLOCKS, NetworkSettings, Recommender
from models.protocols.base import PROTOCOLS
from models.tensorflow.base import TWINS
from models.training.settings import from_json
from models.training.train import load
from workflows.features.vocabulary import FOLDS, OUT_OF_VOCABULARY

SCORE = "score"
PARITY_PAIRS = 1_000
COMPUTES = ("ensemble/export", "models/tensorflow", "models/networks", "models/data", "models/protocols")
LIBRARIES = ("tensorflow-cpu", "tensorflow", "merlin-models", "torch")
BACKEND = ('backend: "tensorflow"', 'platform: "tensorflow_savedmodel"', UNBATCHED)


def write_saved_models(run: Run, protocol: str, say: Callable[..., None]) -> list[str]:
    """Writes `repository-tensorflow/`, whole or not at all; does nothing where it is there and up to date.

    TensorFlow is imported here, so this runs in a process of its own.

    Args:
        protocol: whose models are written: all that are trained for it and have a twin.
        say: given the name of each as it is written.

    Returns:
        Their names.

    Raises:
        UserError: there is none, one was changed, or a SavedModel does not score as the trained network does.
    """
    names = [name for name in served(run, protocol) if name in TWINS]
    if not names:
        raise UserError(f"no model that is trained for {protocol} in {run.root} has a twin in TensorFlow; train one")
    made_from = fingerprint(
        models={name: verify(run.model(protocol, name), run.command("train"))["files"] for name in names},
        features=verify(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))["fingerprint"],
        tables=verify(run.tables, run.command("fetch"))["files"],
        code=code_digest(COMPUTES, LIBRARIES),
    )
    if is_current(run.saved_models, made_from):
        return names
    features = load_features(run, protocol)
    logging.set_verbosity(logging.ERROR)  # Keras names every layer that is saved as a part of another
    with new_folder(run.saved_models, made_from, dataset=run.root.name, protocol=protocol, models=names) as out:
        vocabularies = {name: _vocabulary(run, features, name, out) for name in (USER_ID, MOVIE_ID)}
        config = _signature(run)
        for name in names:
            say(name)
            model, trained = load(run, features, name, torch.device("cpu"))
            settings = from_json(name, trained.settings, str(run.model(protocol, name)))
            module = _Scores(model, features, settings.network, vocabularies)
            folder = out / name / "1" / "model.savedmodel"
            folder.mkdir(parents=True)
            tf.saved_model.save(module, str(folder), signatures=module.of_ids)
            (out / name / CONFIG).write_text(config.config(name, 1, *BACKEND))
            _check(name, model, features, folder, vocabularies)
    return names


def _vocabulary(run: Run, features: Features, name: str, out: Path) -> Lookup:
    """The ids as clients know them, and their indices."""
    path = out / vocabulary_file(name)
    write_with_own_ids(run, name, pq.read_table(features.folder / "vocabulary" / f"{name}.parquet"), path)
    lookup = Lookup(out, name, OUT_OF_VOCABULARY)
    path.unlink()
    return lookup


def _signature(run: Run) -> Signature:
    kinds = {name: kind_of(run, name) for name in (USER_ID, MOVIE_ID)}
    inputs = tuple(Input(name, kind, -1) for name, kind in kinds.items())
    return Signature(inputs, (Output(SCORE, "TYPE_FP32", -1),))


class _Scores(tf.Module):
    """A network from ids to its answers: probabilities, or stars."""

    def __init__(
        self, model: Recommender, features: Features, settings: NetworkSettings, vocabularies: dict[str, Lookup]
    ):
        super().__init__()
        self.twin = TWINS[model.name](model, features, settings)
        self.twin.load(self.twin.pairs(model))
        self.lookups = {
            name: tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(tf.constant(one.ids), tf.constant(one.index)), one.unknown
            )
            for name, one in vocabularies.items()
        }
        self.embeddings = {USER_ID: model.user_embeddings, MOVIE_ID: model.movie_embeddings}
        self.tables = {name: tf.constant(table.numpy()) for name, table in _side_tables(model).items()}
        self.details = model.detail_names
        self.scale, self.offset = float(model.scale), float(model.offset)
        kinds = {name: tf.string if one.is_text else tf.int64 for name, one in vocabularies.items()}
        self.of_ids = tf.function(
            self._of_ids, input_signature=[tf.TensorSpec([None], kinds[name], name) for name in (USER_ID, MOVIE_ID)]
        )

    def _of_ids(self, user_id: tf.Tensor, movie_id: tf.Tensor) -> dict[str, tf.Tensor]:
        user, movie = self.lookups[USER_ID].lookup(user_id), self.lookups[MOVIE_ID].lookup(movie_id)
        logits = self.twin.scores(self._inputs(user, movie)) * self.scale + self.offset
        return {SCORE: tf.sigmoid(logits)}

    def _inputs(self, user: tf.Tensor, movie: tf.Tensor) -> dict[str, tf.Tensor]:
        """`Recommender.inputs`, now, in TensorFlow."""
        found = {USER_ID: self._row(USER_ID, user), MOVIE_ID: self._row(MOVIE_ID, movie)}
        if self.details:
            found.update(zip(self.details, tf.unstack(tf.gather(self.tables["user_details"], user), axis=1)))
        if "now_movies" in self.tables:
            found[HISTORY] = self._row(MOVIE_ID, tf.gather(self.tables["now_movies"], user))
            found[HISTORY_STARS] = tf.gather(self.tables["now_stars"], user)
        index = {"movie_features": movie, "movie_statistics": movie, "user_statistics": user, "recent_means": user}
        blocks = [tf.gather(self.tables[name], index[name]) for name in CONTINUOUS_BLOCKS if name in self.tables]
        if blocks:
            found[CONTINUOUS] = tf.concat(blocks, axis=1)
        return found

    def _row(self, name: str, index: tf.Tensor) -> tf.Tensor:
        return tf.where(index < self.embeddings[name], index, tf.constant(OUT_OF_VOCABULARY, tf.int64))


def _side_tables(model: Recommender) -> dict[str, torch.Tensor]:
    """What is gathered for a user or a movie, by the name of the input that it becomes a part of."""
    found = {name: getattr(model, name) for name in ("user_details", "movie_features", "now_movies", "now_stars")}
    found["recent_means"] = model.now_recent_means
    for name in ("user_statistics", "movie_statistics"):
        table = getattr(model, name)
        found[name] = None if table is None else table[FOLDS]  # nothing is left out
    return {name: table for name, table in found.items() if table is not None}


def _check(name: str, model: Recommender, features: Features, folder: Path, vocabularies: dict[str, Lookup]) -> None:
    """Asks the written SavedModel about known and unknown ids.

    Raises:
        UserError: it scores otherwise than the trained network.
    """
    rng = np.random.default_rng(0)
    asked, indices = {}, {}
    for kind, one in vocabularies.items():
        place = rng.integers(0, len(one.ids), PARITY_PAIRS)
        given, known = one.ids[place], one.index[place]
        given[:10], known[:10] = one.nobody, one.unknown
        asked[kind], indices[kind] = tf.constant(given), known
    found = tf.saved_model.load(str(folder)).signatures["serving_default"](**asked)[SCORE].numpy()
    expected = pair_scorer(model, torch.device("cpu"), features.protocol)(indices[USER_ID], indices[MOVIE_ID])
    difference = largest_difference(found, expected)
    if not is_equal(difference):
        raise UserError(
            f"the SavedModel of {name} scores {difference:.1e} apart from the trained network; nothing was written, "
            "please report this"
        )
