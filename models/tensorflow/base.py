"""What twins share: their registry, and how weights pass between a network's modules and a twin's variables."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import Tensor, nn

from core.columns import HISTORY_OWNER
from core.registry import Registry
from models.data.features import Features
from models.networks.base import Recommender

TWINS: Registry[Callable[[Recommender, Features, Any], "Twin"]] = Registry("TensorFlow twin", "models.tensorflow.twins")

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """A weight of a network, and where the twin keeps it.

    Attributes:
        parameter: PyTorch's, of the network.
        variable: TensorFlow's. A layer's kernel is the transpose of PyTorch's weight.
        rows: int [inputs], which of PyTorch's inputs each row of the kernel is for; None for the same order.
    """

    parameter: nn.Parameter
    variable: tf.Variable
    is_kernel: bool = False
    rows: np.ndarray | None = None

    def to_twin(self, values: Tensor) -> np.ndarray:
        """Values of the parameter's shape, such as itself or its running means, as the variable has them."""
        found = values.detach().cpu().numpy()
        if self.is_kernel:
            found = found.T if self.rows is None else found.T[self.rows]
        return found.copy()  # TensorFlow may keep the array itself

    def to_network(self, values: np.ndarray) -> Tensor:
        """The same back again."""
        if self.is_kernel:
            if self.rows is not None:
                values = values[np.argsort(self.rows)]
            values = np.ascontiguousarray(values.T)
        return torch.from_numpy(values)


class Twin(tf.Module):
    """A network of Merlin's TensorFlow blocks. A subclass is made from (network, features, the network's settings).

    Attributes:
        seed: int64 [2], of the dropout of an epoch and of a step; zeros for no dropout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed = tf.Variable([0, 0], dtype=tf.int64, trainable=False)

    def scores(self, inputs: Inputs) -> tf.Tensor:
        """The score of each sample, float32 [n], neither scaled nor moved.

        Args:
            inputs: as `pair_inputs` gives them.
        """
        raise NotImplementedError

    def against(self, inputs: Inputs) -> tf.Tensor:
        """The scores of positives' own movies and of the movies that a step shares, float32 [n, 1 + k].

        Args:
            inputs: as `shared_inputs` gives them.
        """
        raise NotImplementedError

    def pairs(self, model: Recommender) -> list[Pair]:
        """Every weight of the network, with its variable."""
        raise NotImplementedError

    def tables(self) -> list[tuple[str, tf.Variable]]:
        """Every embedding table, with the input that it is looked up by."""
        raise NotImplementedError

    def squares(self, inputs: Inputs) -> tf.Tensor:
        """The sum of squares of the embeddings that the inputs use; those of a history share one vector's penalty."""
        total = tf.zeros(())
        for name, table in self.tables():
            rows = tf.gather(table, inputs[name])
            pooled = tf.cast(tf.shape(rows)[1], tf.float32) if rows.shape.rank == 3 else 1.0
            total += tf.reduce_sum(rows * rows) / pooled
        return total

    def load(self, pairs: list[Pair]) -> None:
        """Takes the network's weights."""
        for pair in pairs:
            pair.variable.assign(pair.to_twin(pair.parameter))

    def give_back(self, pairs: list[Pair]) -> None:
        """Writes the weights to the network, in place."""
        with torch.no_grad():
            for pair in pairs:
                pair.parameter.copy_(pair.to_network(pair.variable.numpy()))


def layer_pairs(layers: list[nn.Module], kernels: list[tf.keras.layers.Dense]) -> Iterator[Pair]:
    """The weights of linear layers, in their order.

    Args:
        layers: of PyTorch, those without weights among them.
        kernels: as many of TensorFlow as there are linear ones.
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for one, other in zip(linear, kernels, strict=True):
        yield Pair(one.weight, other.kernel, is_kernel=True)
        yield Pair(one.bias, other.bias)


def of_samples(pooled: tf.Tensor, inputs: Inputs) -> tf.Tensor:
    """What was worked out for each history, [histories, ...], for each sample."""
    return tf.gather(pooled, inputs[HISTORY_OWNER]) if HISTORY_OWNER in inputs else pooled
