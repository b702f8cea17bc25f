"""Blocks that several networks are assembled from: what becomes of a pair of vectors, and what was rated before."""

from collections.abc import Mapping
from typing import Dict  # noqa: UP035

import numpy as np
import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from merlin.schema import ColumnSchema, Tags
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import pad

from core.columns import HISTORY, HISTORY_OWNER, MOVIE_ID, USER_ID
from core.json_files import STRICT
from models.data.features import Features
from models.data.history import NOTHING
from models.networks.base import NetworkSettings, PositiveInt

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
        return of_samples(torch.bmm(weight[:, None], self.table.table(codes)).squeeze(1), inputs)


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
