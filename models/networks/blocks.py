"""What networks are assembled from: Merlin's blocks, as all of them use these, and what is in a block."""

import merlin.models.torch as mm
from merlin.models.torch.inputs.embedding import EmbeddingTable
from merlin.schema import Schema, Tags
from torch import Tensor, nn

from core.columns import LABEL, MOVIE_ID, USER_ID
from models.data.features import Features


def id_embeddings(features: Features, dim: int) -> mm.TabularInputBlock:
    """An embedding of the user and one of the movie: {USER_ID, MOVIE_ID} to float [n, dim] each."""
    block = mm.TabularInputBlock(features.schema.select_by_name([USER_ID, MOVIE_ID]))
    block.add_route(Tags.CATEGORICAL, mm.EmbeddingTables(dim, seq_combiner="mean"))
    return block


def output(schema: Schema) -> mm.BinaryOutput:
    """Merlin's binary output without its sigmoid: the loss is taken from logits, which cannot overflow."""
    found = mm.BinaryOutput(schema[LABEL], loss=nn.BCEWithLogitsLoss())
    del found.values[1]
    return found


def mlp(widths: tuple[int, ...], dropout: float) -> mm.MLPBlock:
    """Linear layers with ReLU, and dropout after each where it is not 0."""
    return mm.MLPBlock(list(widths), dropout=dropout or None)


def layers(block: nn.Module) -> list[nn.Module]:
    """The layers of a Merlin block that do anything in evaluation."""
    return [module for module in block.modules() if isinstance(module, (nn.Linear, nn.ReLU))]


def trained_layers(block: nn.Module) -> list[nn.Module]:
    """The layers of a Merlin block that do anything in training."""
    return [module for module in block.modules() if isinstance(module, (nn.Linear, nn.ReLU, nn.Dropout))]


def embedding_of(block: nn.Module, name: str) -> nn.Embedding:
    """The embedding of an input in a Merlin block."""
    tables = (module for module in block.modules() if isinstance(module, EmbeddingTable))
    return next(table.table for table in tables if name in table.feature_to_domain)


def table_of(block: nn.Module, name: str) -> Tensor:
    """Its table, float [rows, dim]."""
    return embedding_of(block, name).weight
