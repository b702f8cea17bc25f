"""NCF's twin. See `models/networks/ncf.py`."""

import merlin.models.tf as mm
import tensorflow as tf
from merlin.models.tf.core.aggregation import ElementWiseMultiply

from core.columns import MOVIE_ID, USER_ID
from models.data.features import Features
from models.networks._blocks import embedding_of, trained_layers
from models.networks.base import Recommender
from models.networks.ncf import NCFSettings
from models.tensorflow.base import TWINS, Inputs, Pair, Twin, layer_pairs
from models.tensorflow.blocks import MLP, embedding_tables, output, table_of

IDS = (USER_ID, MOVIE_ID)


class NCFTwin(Twin):
    """GMF beside an MLP, each over embeddings of its own, as in Merlin's `NCFModel`, whose two widths are one."""

    def __init__(self, model: Recommender, features: Features, settings: NCFSettings):
        super().__init__()
        mlp_dim = settings.mlp_dim or settings.dim
        self.of_gmf, self.of_mlp = (embedding_tables(features, dim) for dim in (settings.dim, mlp_dim))
        self.mlp = MLP(2 * mlp_dim, settings.top, settings.dropout, self.seed)
        gmf = self.of_gmf.connect(ElementWiseMultiply())
        tower = self.of_mlp.connect(self.mlp.block)
        self.body = mm.ParallelBlock({"gmf": gmf, "mlp": tower}, aggregation="concat")
        self.last = output(settings.dim + settings.top[-1])

    def scores(self, inputs: Inputs) -> tf.Tensor:
        return tf.squeeze(self.last(self.body({name: inputs[name] for name in IDS})), 1)

    def against(self, inputs: Inputs) -> tf.Tensor:
        n = tf.shape(inputs[USER_ID])[0]
        user, movie = (tf.gather(table_of(self.of_gmf, name), inputs[name]) for name in IDS)
        first = self.mlp.dense[0]
        kernels = dict(zip((MOVIE_ID, USER_ID), tf.split(first.kernel, 2)))  # Merlin sorts inputs by name
        of_user, of_movie = (tf.gather(table_of(self.of_mlp, name), inputs[name]) @ kernels[name] for name in IDS)
        of_user += first.bias
        width = user.shape[1]
        gmf, tower = self.last.kernel[:width], self.last.kernel[width:]
        user *= gmf[:, 0]
        own = tf.reduce_sum(user * movie[:n], axis=1, keepdims=True)
        own += self.mlp.after_first(of_user + of_movie[:n]) @ tower
        hidden = self.mlp.after_first(of_user[:, None] + of_movie[n:])
        shared = tf.matmul(user, movie[n:], transpose_b=True) + tf.squeeze(hidden @ tower, 2)
        return tf.concat([own, shared], axis=1) + self.last.bias

    def pairs(self, model: Recommender) -> list[Pair]:
        blocks, _, last = model.network.values
        found = []
        for branch, tables in ((blocks.branches["gmf"], self.of_gmf), (blocks.branches["mlp"], self.of_mlp)):
            found += [Pair(embedding_of(branch, name).weight, table_of(tables, name)) for name in IDS]
        layers = [*trained_layers(blocks.branches["mlp"]), *trained_layers(last)]
        return [*found, *layer_pairs(layers, [*self.mlp.dense, self.last])]

    def tables(self) -> list[tuple[str, tf.Variable]]:
        return [(name, table_of(block, name)) for block in (self.of_gmf, self.of_mlp) for name in IDS]


TWINS.add("ncf", NCFTwin)
