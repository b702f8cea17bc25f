"""Merlin Models' TensorFlow blocks as the twins use them."""

import core.gpu  # noqa: F401

import merlin.models.tf as mm
import tensorflow as tf

from core.columns import MOVIE_ID, USER_ID
from models.data.features import Features


def embedding_tables(features: Features, dim: int, names: tuple[str, ...] = (USER_ID, MOVIE_ID)) -> mm.ParallelBlock:
    """An embedding for each input, built: by name, float [n, dim] each."""
    block = mm.Embeddings(features.schema.select_by_name(list(names)), dim=dim)
    block({name: tf.zeros(1, tf.int64) for name in names})
    return block


def table_of(block: tf.keras.layers.Layer, name: str) -> tf.Variable:
    """The table of an input in a block of embeddings, float [rows, dim]."""
    return next(table.table.embeddings for table in block.layers if name in table.features)


class SeededDropout(tf.keras.layers.Layer):
    """Dropout whose mask comes from a seed and the step alone: training that was killed resumes with the same masks."""

    def __init__(self, share: float, seed: tf.Variable, place: int):
        """
        Args:
            share: of the units that are dropped.
            seed: int64 [2], of the epoch and of the step; (0, 0) for no dropout.
            place: tells the layers of a network apart.
        """
        super().__init__()
        self.share, self.seed, self.place = share, seed, place

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        def dropped() -> tf.Tensor:
            seed = tf.stack([self.seed[0], self.seed[1] * 64 + self.place])
            return tf.nn.experimental.stateless_dropout(inputs, self.share, seed)

        return tf.cond(tf.reduce_any(self.seed != 0), dropped, lambda: inputs)


class MLP:
    """Linear layers with ReLU, and dropout after each where it is not 0: a Merlin block, and its layers."""

    def __init__(self, inputs: int, widths: tuple[int, ...], dropout: float, seed: tf.Variable):
        """
        Args:
            inputs: how many it has.
        """
        self.rest: list[tf.keras.layers.Layer] = []
        parts = []
        for place, width in enumerate(widths):
            parts.append(mm.MLPBlock([width]))
            if dropout:
                parts.append(SeededDropout(dropout, seed, place))
        self.block = mm.SequentialBlock(parts)
        self.block(tf.zeros((1, inputs)))
        self.dense = [part.layers[0].dense for part in parts if not isinstance(part, SeededDropout)]
        self.parts = parts

    def after_first(self, hidden: tf.Tensor) -> tf.Tensor:
        """What follows the first layer's products, float [..., widths[0]], its bias included."""
        hidden = self.dense[0].activation(hidden)
        for part in self.parts[1:]:
            hidden = part(hidden)
        return hidden


def output(inputs: int) -> tf.keras.layers.Dense:
    """The layer that gives the score, built: Merlin's binary output without its sigmoid is this."""
    last = tf.keras.layers.Dense(1)
    last.build((None, inputs))
    return last
