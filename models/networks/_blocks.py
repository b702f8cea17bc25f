"""What networks are assembled from: Merlin's blocks as all of them use these, and blocks that several of them share."""

from collections.abc import Callable, Mapping
from typing import Dict  # noqa: UP035

import merlin.models.torch as mm
import numpy as np
import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from merlin.models.torch.utils.torchscript_utils import TorchScriptWrapper
from merlin.schema import ColumnSchema, Schema, Tags
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import dropout as torch_dropout
from torch.nn.functional import pad

from core.columns import HISTORY, HISTORY_OWNER, LABEL, MOVIE_ID, USER_ID
from core.json_files import STRICT
from models.data.batches import Batch
from models.data.features import Features
from models.data.history import NOTHING
from models.networks._pooled import pooled
from models.networks.base import NetworkSettings, PositiveInt, Recommender


def id_embeddings(features: Features, dim: int, names: tuple[str, ...] = (USER_ID, MOVIE_ID)) -> mm.TabularInputBlock:
    """An embedding of the user and one of the movie, or of one of them: by name, float [n, dim] each."""
    block = mm.TabularInputBlock(features.schema.select_by_name(list(names)))
    block.add_route(Tags.CATEGORICAL, mm.EmbeddingTables(dim, seq_combiner="mean"))
    return block


def output(schema: Schema, last: nn.Linear | None = None) -> mm.BinaryOutput:
    """Merlin's binary output without its sigmoid: the loss is taken from logits, which cannot overflow.

    Args:
        last: the layer that gives the score; None for a fresh one.
    """
    found = mm.BinaryOutput(schema[LABEL], loss=nn.BCEWithLogitsLoss())
    del found.values[1]
    if last is not None:
        found.values[0] = TorchScriptWrapper(last)
    return found


def mlp(widths: tuple[int, ...], dropout: float) -> mm.MLPBlock:
    """Linear layers with ReLU, and dropout after each where it is not 0."""
    return with_byte_dropout(mm.MLPBlock(list(widths), dropout=dropout or None))


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


def inputs_against(model: Recommender, batch: Batch) -> dict[str, Tensor]:
    """What positives and shared negatives are looked up by, int64 rows of tables, by name.

    Positives' users, [n], and histories, [n, length]; their movies and then those of the negatives, [n + k].
    """
    inputs = {USER_ID: model.user_rows(batch.user), MOVIE_ID: model.movie_rows(batch.movies())}
    if model.uses_history:
        history = batch.history or model.now(batch.user)
        inputs[HISTORY] = model.movie_rows(history.movies)
    return inputs


def products_against(user: Tensor, movie: Tensor) -> Tensor:
    """The products of positives' users with their own movies and with shared negatives, plus the movies' biases.

    Args:
        user: float [n, dim].
        movie: float [n + k, dim + 1], the positives' own movies and then the shared ones; the last column is the bias.

    Returns:
        float [n, 1 + k].
    """
    own, shared = movie.split([len(user), len(movie) - len(user)])
    of_own = (user * own[:, :-1]).sum(dim=1) + own[:, -1]
    of_shared = user @ shared[:, :-1].T + shared[:, -1]
    return torch.cat([of_own[:, None], of_shared], dim=1)


class ByteDropout(nn.Dropout):
    """Dropout whose mask takes a random byte per unit on the CPU: PyTorch's draws took half of NCF's training there.

    The share is rounded to a multiple of 1/256, and what is left is scaled by the rounded share.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.p or inputs.device.type != "cpu":
            return torch_dropout(inputs, self.p, self.training)
        kept = max(1, round((1 - self.p) * 256))
        words = torch.empty(-(-inputs.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        mask = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape) < kept
        return inputs * mask.to(inputs.dtype).mul_(256 / kept)


def with_byte_dropout(block: nn.Module) -> nn.Module:
    """The block with `ByteDropout` in the place of every dropout module."""
    for parent in list(block.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, TorchScriptWrapper) and type(child.to_wrap) is nn.Dropout:
                child.to_wrap = ByteDropout(child.to_wrap.p)
            elif type(child) is nn.Dropout:
                setattr(parent, name, ByteDropout(child.p))
    return block


# Every block below takes typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary.


class Product(nn.Module):
    """The element-wise product of the user's and the movie's embedding, float [n, dim]."""

    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        return inputs[USER_ID] * inputs[MOVIE_ID]


class BiasedDot(nn.Module):
    """The dot product of both embeddings but for the last column of each, which is a bias. float [n, 1]."""

    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        user, movie = inputs[USER_ID], inputs[MOVIE_ID]
        product = (user[:, :-1] * movie[:, :-1]).sum(dim=1, keepdim=True)
        return product + user[:, -1:] + movie[:, -1:]


def biased_dots_against(model: Recommender, batch: Batch) -> Tensor:
    """Scores of positives and of shared negatives of a `BiasedDot` over a block of embeddings: one matrix product."""
    vectors = model.network.values[0](inputs_against(model, batch))
    user = vectors[USER_ID]
    return products_against(user[:, :-1], vectors[MOVIE_ID]) + user[:, -1:] + model.offset


def neumf(
    features: Features,
    inputs: Callable[[int], nn.Module],
    *,
    dims: tuple[int, int],
    top: tuple[int, ...],
    dropout: float,
) -> mm.Model:
    """NeuMF over embeddings of user and movie. At the start GMF's part of the score is matrix factorisation's.

    He et al. note that GMF with weights of 1 is matrix factorisation. With PyTorch's small random weights, embeddings
    would have to grow further, against the same penalty.

    Args:
        inputs: from a dimension to the block that looks both embeddings up.
        dims: of GMF's embeddings and of the MLP's.
        top: widths of the MLP.
    """
    gmf = mm.Block(inputs(dims[0]), Product())
    tower = mm.Block(inputs(dims[1]), mlp(top, dropout))
    last = nn.Linear(dims[0] + top[-1], 1)
    with torch.no_grad():
        last.weight[:, : dims[0]] = 1.0
    return mm.Model(mm.ParallelBlock({"gmf": gmf, "mlp": tower}), mm.Concat(), output(features.schema, last))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RatedBeforeSettings(NetworkSettings):
    """Sizes of a network that sums up what the user had rated before.

    Attributes:
        history: how many of the user's last movies it sees.
    """

    history: PositiveInt = 50


def history_table(features: Features, dim: int) -> EmbeddingTable:
    """An embedding of the movies of histories, apart from that of the movies that are scored."""
    domain = {**features.schema[MOVIE_ID].properties["domain"], "name": HISTORY}
    movies = ColumnSchema(HISTORY, dtype=np.int64, tags=[Tags.CATEGORICAL], properties={"domain": domain})
    return EmbeddingTable(dim, movies)


def of_samples(pooled: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """What was worked out for each history, [histories, ...], for each sample."""
    return pooled.index_select(0, inputs[HISTORY_OWNER]) if HISTORY_OWNER in inputs else pooled


class RatedBefore(nn.Module):
    """The sum of the embeddings of the user's last movies, over a power of how many there are: float [n, dim]."""

    def __init__(self, features: Features, dim: int, power: float = 0.5):
        """
        Args:
            power: 0 for the sum, 1 for the mean; the root lies between them.
        """
        super().__init__()
        self.table = history_table(features, dim)
        self.power = power

    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        codes = inputs[HISTORY]
        there = (codes != NOTHING).float()
        weight = there * there.sum(dim=1, keepdim=True).clamp(min=1) ** -self.power
        return of_samples(pooled(self.table.table, codes, weight[:, None]).squeeze(1), inputs)


class UserAndRatedBefore(nn.Module):
    """Embeddings of user and movie, where what the user had rated before is added to the user's first columns."""

    def __init__(self, ids: nn.Module, rated: RatedBefore):
        super().__init__()
        self.ids, self.rated = ids, rated

    def forward(self, inputs: Dict[str, Tensor]) -> Dict[str, Tensor]:  # noqa: UP006
        vectors = self.ids(inputs)
        user, rated = vectors[USER_ID], self.rated(inputs)
        vectors[USER_ID] = user + pad(rated, (0, user.shape[1] - rated.shape[1]))
        return vectors
