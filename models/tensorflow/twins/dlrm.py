"""DLRM's twin. See `models/networks/dlrm.py`."""

from itertools import combinations

import merlin.models.tf as mm
import numpy as np
import tensorflow as tf
from merlin.schema import Tags

from core.columns import CONTINUOUS, HISTORY, HISTORY_STARS, MOVIE_ID
from models.data.features import Features
from models.data.history import NOTHING
from models.networks._blocks import trained_layers
from models.networks.base import Recommender
from models.networks.dlrm import DLRMSettings
from models.tensorflow.base import TWINS, Inputs, Pair, Twin, layer_pairs, of_samples
from models.tensorflow.blocks import MLP, embedding_tables, output, table_of
from models.tensorflow.inputs import OF_MOVIES, OF_USERS

BOTTOM = "bottom_block"  # what Merlin's TensorFlow DLRM calls the vector of the continuous features


class PooledHistory(tf.keras.layers.Layer):
    """The user's last movies as two vectors, pooled with learned weights per position: `HistoryBlock`'s twin."""

    def __init__(self, rows: int, dim: int, length: int):
        super().__init__()
        self.table = self.add_weight("table", (rows, dim))
        self.position = self.add_weight("position", (2, length))

    def call(self, inputs: Inputs) -> dict[str, tf.Tensor]:
        there = tf.cast(inputs[HISTORY] != NOTHING, tf.float32)
        weights = tf.stack([self.position[0] * there, self.position[1] * inputs[HISTORY_STARS]], axis=1)
        pooled = of_samples(weights @ tf.gather(self.table, inputs[HISTORY]), inputs)
        return {HISTORY: pooled[:, 0], HISTORY_STARS: pooled[:, 1]}

    def compute_output_shape(self, _: object) -> dict[str, tuple[None, int]]:
        return dict.fromkeys((HISTORY, HISTORY_STARS), (None, self.table.shape[1]))


class DLRMTwin(Twin):
    """Merlin's `DLRMBlock` and a last layer, with the history among its embeddings."""

    def __init__(self, model: Recommender, features: Features, settings: DLRMSettings):
        super().__init__()
        schema, dim = features.schema.excluding_by_tag(Tags.TARGET), settings.dim
        self.ids = tuple(schema.select_by_tag(Tags.CATEGORICAL).column_names)
        self.embeddings = embedding_tables(features, dim, self.ids)
        self.history = None
        if settings.history:
            self.history = PooledHistory(features.movie_embeddings, dim, settings.history)
        of_history = [HISTORY, HISTORY_STARS] if settings.history else []
        self.of_user = sorted([*self.ids, *of_history])
        self.of_user.remove(MOVIE_ID)
        self.products = list(combinations(sorted([*self.of_user, MOVIE_ID, BOTTOM]), 2))
        continuous = trained_layers(_torch_bottom(model))[0].in_features
        self.bottom = MLP(continuous, (*settings.bottom, dim), 0.0, self.seed)
        self.top = MLP(dim + len(self.products), settings.top, settings.dropout, self.seed)
        self.last = output(settings.top[-1])
        self.block = mm.DLRMBlock(
            schema,
            embeddings=mm.ParallelBlock({"ids": self.embeddings, **({"history": self.history} if of_history else {})}),
            bottom_block=self.bottom.block,
            top_block=self.top.block,
        )

    def scores(self, inputs: Inputs) -> tf.Tensor:
        return tf.squeeze(self.last(self.block(dict(inputs))), 1)

    def against(self, inputs: Inputs) -> tf.Tensor:
        n = tf.shape(inputs[OF_USERS])[0]
        vectors = {name: tf.gather(table_of(self.embeddings, name), inputs[name]) for name in self.ids}
        vectors |= self.history(inputs) if self.history else {}
        movie = vectors[MOVIE_ID]
        users = tf.stack([vectors[name] for name in self.of_user], axis=1)
        first = self.bottom.dense[0]
        of_movie = inputs[OF_MOVIES] @ first.kernel[: inputs[OF_MOVIES].shape[1]]
        of_user = inputs[OF_USERS] @ first.kernel[inputs[OF_MOVIES].shape[1] :] + first.bias
        own = self._top(users, self.bottom.after_first(of_user + of_movie[:n])[:, None], movie[:n, None])
        shared = self._top(users, self.bottom.after_first(of_user[:, None] + of_movie[n:]), movie[None, n:])
        return tf.squeeze(tf.concat([own, shared], axis=1), 2)

    def _top(self, users: tf.Tensor, continuous: tf.Tensor, movie: tf.Tensor) -> tf.Tensor:
        """The score of users with movies: what only users bring to the top MLP's first layer is worked out once.

        Args:
            users: float [n, vectors, dim], in the order of `of_user`.
            continuous: float [n, k, dim].
            movie: float [n, k, dim], or [1, k, dim] of movies that all users share.

        Returns:
            float [n, k, 1].
        """
        dense = self.top.dense[0]
        dim = continuous.shape[-1]
        place = {pair: dim + i for i, pair in enumerate(self.products)}

        def kernel(pairs: list[tuple[str, str]]) -> tf.Tensor:
            return tf.gather(dense.kernel, [place[min(pair), max(pair)] for pair in pairs])

        hidden = tf.tensordot(continuous, dense.kernel[:dim], 1) + dense.bias
        hidden += tf.reduce_sum(continuous * movie, -1, keepdims=True) * kernel([(MOVIE_ID, BOTTOM)])
        for other, name in ((movie, MOVIE_ID), (continuous, BOTTOM)):
            other = tf.broadcast_to(other, tf.shape(continuous))
            with_users = tf.matmul(other, users, transpose_b=True)  # [n, k, vectors]
            hidden += tf.tensordot(with_users, kernel([(one, name) for one in self.of_user]), 1)
        own = list(combinations(range(len(self.of_user)), 2))
        if own:
            one, other = (list(part) for part in zip(*own))
            products = tf.reduce_sum(tf.gather(users, one, axis=1) * tf.gather(users, other, axis=1), axis=-1)
            names = [(self.of_user[first], self.of_user[second]) for first, second in own]
            hidden += (products @ kernel(names))[:, None]
        return self.last(self.top.after_first(hidden))

    def pairs(self, model: Recommender) -> list[Pair]:
        body, last = model.network.values
        block, _, top = body.values
        tables = dict(model.embedding_tables())
        found = [Pair(tables[name].weight, table_of(self.embeddings, name)) for name in self.ids]
        if self.history:
            found += [Pair(tables[HISTORY].weight, self.history.table), Pair(block.position, self.history.position)]
        found += layer_pairs(trained_layers(_torch_bottom(model)), self.bottom.dense)
        first, *others = layer_pairs([*trained_layers(top), *trained_layers(last)], [*self.top.dense, self.last])
        return [*found, Pair(first.parameter, first.variable, is_kernel=True, rows=self._rows()), *others]

    def _rows(self) -> np.ndarray:
        """Where each input of the top MLP is in PyTorch's, which calls the continuous features' vector otherwise."""
        theirs = list(combinations(sorted([*self.of_user, MOVIE_ID, CONTINUOUS]), 2))
        place = {frozenset(pair): i for i, pair in enumerate(theirs)}
        named = [frozenset(CONTINUOUS if name == BOTTOM else name for name in pair) for pair in self.products]
        dim = self.top.dense[0].kernel.shape[0] - len(self.products)
        return np.concatenate([np.arange(dim), [dim + place[pair] for pair in named]])

    def tables(self) -> list[tuple[str, tf.Variable]]:
        found = [(name, table_of(self.embeddings, name)) for name in self.ids]
        return [*found, (HISTORY, self.history.table)] if self.history else found


def _torch_bottom(model: Recommender) -> object:
    """The bottom MLP of the network that the twin is of."""
    block = model.network.values[0].values[0]
    return (block.inputs if model.uses_history else block).branches[CONTINUOUS]


TWINS.add("dlrm", DLRMTwin)
