"""DLRM (Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019).

Every categorical feature has an embedding, the continuous ones pass a bottom MLP to the same dimension, all pairs of
these vectors meet in dot products, and a top MLP scores them. It sees all features, and what the user had rated before.
"""

from copy import copy
from dataclasses import replace
from itertools import combinations, product
from typing import Annotated, Dict  # noqa: UP035

import merlin.models.torch as mm
import torch
from merlin.models.torch.blocks.dlrm import DLRMInputBlock, InteractionBlock
from merlin.models.torch.inputs.embedding import EmbeddingTable
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from core.columns import CONTINUOUS, HISTORY, HISTORY_STARS, MOVIE_ID
from core.json_files import STRICT
from models.cut import Cut, Head, HistoryInputs
from models.data.features import Features, SideTables
from models.data.history import NOTHING, History
from models.networks._blocks import history_table, layers, mlp, of_samples, output
from models.networks._dlrm_negatives import against
from models.networks._pooled import pooled
from models.networks.base import (
    CONTINUOUS_BLOCKS,
    NETWORKS,
    Network,
    NetworkSettings,
    PositiveInt,
    Recommender,
    Share,
    Widths,
)
from models.search_space import Log, OneOf, Uniform


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DLRMSettings(NetworkSettings):
    """Sizes of DLRM.

    Attributes:
        bottom: widths of the bottom MLP before its last layer, which has width `dim`.
        top: widths of the top MLP.
        dropout: share of units dropped after each layer of `top`.
        history: how many of the user's last movies it sees; 0 to leave the history out altogether.
        user_statistics: whether it sees how many ratings the user gave, their mean and time. Beside a user's own
            embedding, what a fold leaves out betrays that fold's labels, which can harm where labels are stars.
    """

    bottom: tuple[PositiveInt, ...] = (64,)
    top: Widths = (64, 32)
    dropout: Share = 0.0
    history: Annotated[int, Field(ge=0)] = 0
    user_statistics: bool = True


def assemble(features: Features, settings: DLRMSettings) -> nn.Module:
    """The network over all inputs."""
    return scored(inputs_of(features, settings), features, settings)


def scored(inputs: nn.Module, features: Features, settings: DLRMSettings) -> nn.Module:
    """The network over vectors: their dot products, and the top MLP."""
    block = mm.Block(inputs, InteractionBlock(PairProducts()), mlp(settings.top, settings.dropout))
    return mm.Model(block, output(features.schema))


def inputs_of(features: Features, settings: DLRMSettings) -> nn.Module:
    """The vectors that meet in dot products, by name: float [n, dim] each."""
    inputs = DLRMInputBlock(features.schema, settings.dim, mm.MLPBlock([*settings.bottom, settings.dim]))
    if not settings.history:
        return inputs
    return HistoryBlock(inputs, history_table(features, settings.dim), settings.history)


def side_tables(features: Features, settings: DLRMSettings) -> SideTables:
    """The side tables, without the user's statistics where the settings leave them out."""
    return features.side if settings.user_statistics else replace(features.side, user_statistics=None)


class HistoryBlock(nn.Module):
    """DLRM's inputs, with the user's last movies as two multi-hot features, pooled with learned weights per position.

    One pools the movies' embeddings, the other the same by how much the user liked them. (Position-weighted pooling of
    recent items as in TorchRec's `PositionWeightedModule`.)
    """

    def __init__(self, inputs: nn.Module, table: EmbeddingTable, length: int):
        super().__init__()
        self.inputs, self.table = inputs, table
        self.position = nn.Parameter(torch.full((2, length), length**-0.5))

    # typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Dict[str, Tensor]:  # noqa: UP006
        vectors = self.inputs(inputs)
        pooled = of_samples(self.pooled(inputs[HISTORY], inputs[HISTORY_STARS]), inputs)
        vectors[HISTORY], vectors[HISTORY_STARS] = pooled[:, 0], pooled[:, 1]
        return vectors

    def pooled(self, codes: Tensor, stars: Tensor) -> Tensor:
        """Codes of movies, int64 [n, length], and their stars to the two vectors of each row, float [n, 2, dim]."""
        weights = torch.stack([self.position[0] * (codes != NOTHING), self.position[1] * stars], dim=1)
        return pooled(self.table.table, codes, weights)


class PairProducts(nn.Module):
    """DLRM's interaction: the dot products of all pairs of vectors, in the order of Merlin's `DLRMInteraction`.

    A batch of 3 x 3 or 6 x 6 matrix products, half of which are thrown away, takes longer than the few products that
    are asked for (measured in bench/README.md).
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """float [n, vectors, dim] to [n, vectors * (vectors - 1) / 2]."""
        return torch.stack([(one * other).sum(dim=1) for one, other in combinations(vectors.unbind(1), 2)], dim=1)


class DLRMHead(Head):
    """DLRM after its lookups: the rest of the bottom MLP, the products of all pairs, the top MLP.

    The products of two of the user's own vectors are worked out once for a row of users, not for each movie.
    """

    def __init__(self, of_user: list[str], bottom: nn.Sequential, top: nn.Sequential):
        """
        Args:
            of_user: the vectors in the user's row, in its order.
            bottom: the bottom MLP without its first layer.
            top: the top MLP and the output, from [bottom's output, products of the pairs of sorted names] on.
        """
        super().__init__()
        self.of_user, self.bottom, self.rest = of_user, bottom, top[1:]
        pairs = list(combinations(sorted([*of_user, MOVIE_ID, CONTINUOUS]), 2))
        self.dim = dim = top[0].in_features - len(pairs)
        self.one_user = False
        place = {frozenset(pair): dim + i for i, pair in enumerate(pairs)}
        self.own = list(combinations(range(len(of_user)), 2))
        own = [place[frozenset((of_user[one], of_user[other]))] for one, other in self.own]
        others = [*product((MOVIE_ID, CONTINUOUS), of_user), (MOVIE_ID, CONTINUOUS)]
        weight = top[0].weight.T
        self.first_bias = nn.Parameter(top[0].bias)
        self.first_own = nn.Parameter(weight[own].contiguous())
        self.first = nn.Parameter(weight[[*range(dim), *(place[frozenset(pair)] for pair in others)]].contiguous())

    def for_one_user(self) -> "DLRMHead":
        """The same head for a single row of users, in matrix products where pairs need sums of products."""
        head = copy(self)
        head.one_user = True
        return head

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        width = self.dim * len(self.of_user)
        users = user[:, :width].split(self.dim, dim=1)
        continuous = self.bottom(user[:, width:] + hidden)
        inputs = [continuous]
        for movie in (vector, continuous):
            if self.one_user:
                inputs.append(movie @ user[:, :width].reshape(-1, self.dim).T)
            else:
                inputs += [_dot(movie, one) for one in users]
        inputs.append(_dot(vector, continuous))
        of_user = self.first_bias[None]
        if self.own:
            products = torch.cat([_dot(users[one], users[other]) for one, other in self.own], dim=1)
            of_user = torch.addmm(of_user, products, self.first_own)
        first = torch.addmm(of_user, torch.cat(inputs, dim=1), self.first)
        return self.rest(first).squeeze(1)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1, keepdim=True)


def cut(model: Recommender, users: Tensor, movies: Tensor) -> Cut:
    """A user's row is [the user's vectors in order, what the user brings to the bottom MLP's first layer]."""
    body, last = model.network.values
    block, _, top = body.values
    tables = {name: table.weight for name, table in model.embedding_tables()}
    codes = model.codes(users, torch.zeros_like(users))
    of_user = {name: tables[name][rows] for name, rows in codes.items() if name != MOVIE_ID}
    movie_codes = model.codes(torch.zeros_like(movies), movies)[MOVIE_ID]
    now = model.now(users) if model.uses_history else None
    if now is not None:
        pooled = block.pooled(model.movie_rows(now.movies), now.stars)
        of_user |= {HISTORY: pooled[:, 0], HISTORY_STARS: pooled[:, 1]}
    first, *bottom = layers((block.inputs if model.uses_history else block).branches[CONTINUOUS])
    on_users, on_movies, weights = _first_layer(model, first, users, movies, now)
    width = sum(vector.shape[1] for vector in of_user.values())
    vectors = tables[MOVIE_ID][movie_codes]
    history = None
    if now is not None:
        history = HistoryInputs(
            movies=tables[HISTORY][movie_codes].numpy(),
            position=block.position.numpy(),
            history_columns=slice(width - 2 * vectors.shape[1], width),
            recent_columns=slice(width, width + on_users.shape[1]),
            recent_weights=weights["recent_means"].numpy(),
        )
    head = DLRMHead(list(of_user), nn.Sequential(*bottom), nn.Sequential(*layers(top), *layers(last)))
    return Cut(
        users=torch.cat([*of_user.values(), on_users], dim=1).numpy(),
        vectors=vectors.numpy(),
        hidden=(on_movies + first.bias).numpy(),
        head=head.eval(),
        embeddings=vectors.numpy(),
        history=history,
    )


def _first_layer(
    model: Recommender, first: nn.Linear, users: Tensor, movies: Tensor, now: History | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What users and movies bring to the first layer, float [users, width] and [movies, width], and its weights.

    The weights, float [inputs, width], are by block of the continuous inputs.
    """
    of_users = model.continuous(users, torch.zeros_like(users), None, now)
    of_movies = model.continuous(torch.zeros_like(movies), movies, None, None)
    names = [name for name in CONTINUOUS_BLOCKS if name in of_users]
    parts = first.weight.split([of_users[name].shape[1] for name in names], dim=1)
    weights = {name: part.T for name, part in zip(names, parts)}
    about_movies = [name for name in names if name.startswith("movie_")]
    about_users = [name for name in names if name not in about_movies]
    on_users = torch.zeros(len(users), first.out_features)
    if about_users:
        on_users = torch.cat([of_users[name] for name in about_users], dim=1) @ torch.cat(
            [weights[name] for name in about_users]
        )
    on_movies = torch.cat([of_movies[name] for name in about_movies], dim=1) @ torch.cat(
        [weights[name] for name in about_movies]
    )
    return on_users, on_movies, weights


DLRM = NETWORKS.add(
    "dlrm",
    Network(
        title="DLRM",
        settings=DLRMSettings,
        assemble=assemble,
        side_tables=side_tables,
        history_length=lambda settings: settings.history,
        space={
            "top": OneOf(small=(32, 16), medium=(64, 32), deep=(64, 32, 16), wide=(128, 64, 32)),
            "dropout": Uniform(0.0, 0.6),
            "weight_decay": Log(1e-7, 1e-3),
            "history": OneOf(0, 3, 5, 10, 20),
            "user_statistics": OneOf(True, False),
        },
        cut=cut,
        against=against,
    ),
    position=10,
)
