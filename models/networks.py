"""DLRM and NCF, assembled from Merlin Models' PyTorch blocks, over index tensors.

DLRM (Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019): every
categorical feature has an embedding, the continuous ones pass a bottom MLP to the same dimension, all pairs of these
vectors meet in dot products, and a top MLP scores them. It sees all features.

NCF, as NeuMF (He et al., "Neural Collaborative Filtering", 2017): the element-wise product of one pair of user and
movie embeddings (GMF) beside an MLP over another pair, concatenated and scored. It sees ids only.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Dict  # noqa: UP035

import merlin.models.torch as mm
import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from merlin.schema import Schema, Tags
from torch import Tensor, nn

from marquee.columns import CONTINUOUS, LABEL, MOVIE_ID, USER_ID
from models.data import Features, SideTables
from workflows.vocabulary import FIRST_INDEX, FOLDS, OUT_OF_VOCABULARY


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of a network.

    Attributes:
        dim: of every embedding.
        bottom: widths of DLRM's bottom MLP before its last layer, which has width `dim`. NCF has none.
        top: widths of DLRM's top MLP, or of NCF's MLP branch.
        dropout: share of units dropped after each layer of `top`.
        init_std: standard deviation of the embeddings at the start.
    """

    dim: int = 32
    bottom: tuple[int, ...] = (64,)
    top: tuple[int, ...] = (64, 32)
    dropout: float = 0.0
    init_std: float = 0.05


class Product(nn.Module):
    """GMF's interaction: the element-wise product of the user's and the movie's embedding."""

    # typing.Dict, not dict: Merlin tells by the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        return inputs[USER_ID] * inputs[MOVIE_ID]


class PairProducts(nn.Module):
    """DLRM's interaction: the dot products of all pairs of vectors, in the order of Merlin's `DLRMInteraction`.

    A batch of 3 x 3 or 6 x 6 matrix products, half of which are thrown away, takes longer than the few products that
    are asked for (measured in bench/README.md).
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """float [n, vectors, dim] to [n, vectors * (vectors - 1) / 2]."""
        return torch.stack([(one * other).sum(dim=1) for one, other in combinations(vectors.unbind(1), 2)], dim=1)


class Recommender(nn.Module):
    """A Merlin model over (user index, movie index): gathers the side tables and scores.

    The side tables are buffers, so they move with the model to its device and into its export, but they are not among
    the trained weights.
    """

    def __init__(self, network: nn.Module, side: SideTables, embeddings: tuple[int, int], uses_features: bool):
        super().__init__()
        self.network = network
        self.user_embeddings, self.movie_embeddings = embeddings
        self.uses_features = uses_features
        self.detail_names = side.detail_names
        for name in ("user_details", "user_statistics", "movie_features", "movie_statistics"):
            self.register_buffer(name, getattr(side, name) if uses_features else None, persistent=False)

    def forward(self, user: Tensor, movie: Tensor, fold: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            user, movie: int64 [n], indices.
            fold: int64 [n], the fold whose ratings the statistics must not contain; None for none left out.

        Returns:
            float32 [n].
        """
        inputs = self._codes(user, movie)
        if self.uses_features:
            inputs[CONTINUOUS] = torch.cat(
                [
                    self.movie_features.index_select(0, movie),
                    _statistics(self.movie_statistics, fold, movie),
                    _statistics(self.user_statistics, fold, user),
                ],
                dim=1,
            )
        return self.network(inputs).squeeze(1)

    def _codes(self, user: Tensor, movie: Tensor) -> dict[str, Tensor]:
        """The categorical inputs, each a row of its embedding table: int64 [n] by name."""
        codes = {
            USER_ID: _in_vocabulary(user, self.user_embeddings),
            MOVIE_ID: _in_vocabulary(movie, self.movie_embeddings),
        }
        if self.uses_features and self.detail_names:
            codes.update(zip(self.detail_names, self.user_details[user].unbind(1)))
        return codes

    def embedding_tables(self) -> list[tuple[str, nn.Embedding]]:
        """Every embedding of the network, with the input that it belongs to."""
        tables = (module for module in self.network.modules() if isinstance(module, EmbeddingTable))
        return [(next(iter(table.feature_to_domain)), table.table) for table in tables]

    def reserved_rows(self, user: Tensor, movie: Tensor) -> dict[str, list[int]]:
        """Which of the reserved codes these users and movies use, by input: those of rare ids that share a row."""
        codes = self._codes(user, movie)
        return {name: [row for row in range(FIRST_INDEX) if bool((code == row).any())] for name, code in codes.items()}

    @torch.no_grad()
    def fill_reserved_rows(self, trained: dict[str, list[int]]) -> None:
        """Gives reserved rows that no positive ever trained the mean of the others: unknown ids then score as average.

        Args:
            trained: the reserved rows to be left alone, by input: `reserved_rows` of the training positives.
        """
        for name, table in self.embedding_tables():
            for row in set(range(FIRST_INDEX)) - set(trained[name]):
                table.weight[row] = table.weight[FIRST_INDEX:].mean(dim=0)


def _statistics(table: Tensor, fold: Tensor | None, index: Tensor) -> Tensor:
    """float32 [n, 3] of a table [FOLDS + 1, entities, 3]."""
    place = (FOLDS if fold is None else fold) * table.shape[1] + index
    return table.flatten(0, 1).index_select(0, place)


def _in_vocabulary(index: Tensor, embeddings: int) -> Tensor:
    return torch.where(index < embeddings, index, OUT_OF_VOCABULARY)


def build(name: str, features: Features, settings: NetworkSettings, seed: int) -> Recommender:
    """A fresh model: `dlrm` or `ncf`, its weights drawn from `seed`.

    Raises:
        ValueError: another name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "dlrm":
            network = _dlrm(features.schema, settings)
        elif name == "ncf":
            network = _ncf(features.schema.select_by_name([USER_ID, MOVIE_ID]), features.schema, settings)
        else:
            raise ValueError(f"unknown model {name!r}")
        embeddings = features.user_embeddings, features.movie_embeddings
        model = Recommender(network, features.side, embeddings, uses_features=name == "dlrm")
        with torch.no_grad():
            index = torch.full((2,), OUT_OF_VOCABULARY)
            model(index, index)  # Merlin's layers take their sizes from the first batch
        for _, table in model.embedding_tables():
            nn.init.normal_(table.weight, std=settings.init_std)
    return model


def _output(schema: Schema) -> mm.BinaryOutput:
    """Merlin's binary output without its sigmoid: the loss is taken from logits, which cannot overflow."""
    output = mm.BinaryOutput(schema[LABEL], loss=nn.BCEWithLogitsLoss())
    del output.values[1]
    return output


def _dlrm(schema: Schema, settings: NetworkSettings) -> nn.Module:
    return mm.DLRMModel(
        schema,
        dim=settings.dim,
        bottom_block=mm.MLPBlock([*settings.bottom, settings.dim]),
        top_block=mm.MLPBlock(list(settings.top), dropout=settings.dropout or None),
        interaction=PairProducts(),
        output_block=_output(schema),
    )


def _ncf(ids: Schema, schema: Schema, settings: NetworkSettings) -> nn.Module:
    def embeddings() -> mm.TabularInputBlock:
        block = mm.TabularInputBlock(ids)
        block.add_route(Tags.CATEGORICAL, mm.EmbeddingTables(settings.dim, seq_combiner="mean"))
        return block

    gmf = mm.Block(embeddings(), Product())
    mlp = mm.Block(embeddings(), mm.MLPBlock(list(settings.top), dropout=settings.dropout or None))
    return mm.Model(mm.ParallelBlock({"gmf": gmf, "mlp": mlp}), mm.Concat(), _output(schema))
