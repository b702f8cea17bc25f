"""NCF, as NeuMF (He et al., "Neural Collaborative Filtering", 2017).

The element-wise product of one pair of user and movie embeddings (GMF) beside an MLP over another pair, concatenated
and scored. It sees ids only.
"""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from core.columns import MOVIE_ID, USER_ID
from core.json_files import STRICT
from models.cut import Cut, Head
from models.data.batches import Batch
from models.data.features import Features
from models.networks._blocks import (
    id_embeddings,
    inputs_against,
    layers,
    neumf,
    table_of,
    trained_layers,
)
from models.networks.base import NETWORKS, Network, NetworkSettings, Recommender, Share, Widths
from models.search_space import Log, OneOf, Uniform
from workflows.features.vocabulary import OUT_OF_VOCABULARY

MLP_INPUTS = (MOVIE_ID, USER_ID)  # in the order of the first layer: Merlin's Concat sorts by name


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NCFSettings(NetworkSettings):
    """Sizes of NCF.

    Attributes:
        mlp_dim: of the embeddings of the MLP branch; 0 for `dim`.
        top: widths of the MLP branch.
        dropout: share of units dropped after each layer of `top`.
    """

    mlp_dim: Annotated[int, Field(ge=0)] = 0
    top: Widths = (64, 32)
    dropout: Share = 0.0


def assemble(features: Features, settings: NCFSettings) -> nn.Module:
    """The network over the inputs of both ids."""
    dims = settings.dim, settings.mlp_dim or settings.dim
    return neumf(features, partial(id_embeddings, features), dims=dims, top=settings.top, dropout=settings.dropout)


def branches(model: Recommender) -> list[Recommender]:
    """GMF and the MLP as models of their own, over the same modules, each with a fresh last layer."""
    found = []
    for name, block in model.network.values[0].branches.items():
        with torch.no_grad():
            index = torch.full((2,), OUT_OF_VOCABULARY, device=model.offset.device)
            width = block(model.codes(index, index)).shape[1]
        embeddings = model.user_embeddings, model.movie_embeddings
        last = nn.Linear(width, 1)
        if name == "gmf":
            nn.init.ones_(last.weight)
        found.append(Recommender(nn.Sequential(block, last), embeddings, offset=float(model.offset)))
    return found


def against(model: Recommender, batch: Batch) -> Tensor:
    """Scores of positives and of shared negatives: the first layer is a sum of a user's and a movie's part."""
    blocks, _, output_layer = model.network.values
    gmf, tower = blocks.branches["gmf"], blocks.branches["mlp"]
    rows = inputs_against(model, batch)
    products, inputs = (branch.values[0](rows) for branch in (gmf, tower))  # of the blocks that look embeddings up
    first, *rest = trained_layers(tower)
    weights = dict(zip(MLP_INPUTS, first.weight.split([inputs[name].shape[1] for name in MLP_INPUTS], dim=1)))
    of_user, of_movie = inputs[USER_ID] @ weights[USER_ID].T + first.bias, inputs[MOVIE_ID] @ weights[MOVIE_ID].T
    last = layers(output_layer)[0]
    width = products[USER_ID].shape[1]
    user = products[USER_ID] * last.weight[:, :width]
    rows_of_batch, hidden = len(batch), nn.Sequential(*rest)
    own = (user * products[MOVIE_ID][:rows_of_batch]).sum(dim=1, keepdim=True)
    own = own + hidden(of_user + of_movie[:rows_of_batch]) @ last.weight[:, width:].T
    shared = user @ products[MOVIE_ID][rows_of_batch:].T
    shared = shared + (hidden(of_user[:, None] + of_movie[rows_of_batch:]) @ last.weight[:, width:].T).squeeze(2)
    return torch.cat([own, shared], dim=1) + last.bias + model.offset


class NCFHead(Head):
    """NeuMF after its lookups: GMF's product beside the MLP without its first layer."""

    def __init__(self, dim: int, rest: nn.Sequential, last: nn.Module):
        super().__init__()
        self.dim, self.rest, self.last = dim, rest, last

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        gmf = user[:, : self.dim] * vector
        tower = self.rest(user[:, self.dim :] + hidden)
        return self.last(torch.cat([gmf, tower], dim=1)).squeeze(1)


def cut(model: Recommender, users: Tensor, movies: Tensor) -> Cut:
    """A user's row is [GMF's embedding, what the user brings to the MLP's first layer]."""
    blocks, _, last = model.network.values
    gmf, tower = blocks.branches["gmf"], blocks.branches["mlp"]
    user = model.codes(users, torch.zeros_like(users))[USER_ID]
    movie = model.codes(torch.zeros_like(movies), movies)[MOVIE_ID]
    rows = {USER_ID: table_of(tower, USER_ID)[user], MOVIE_ID: table_of(tower, MOVIE_ID)[movie]}
    first, *rest = layers(tower)
    weights = dict(zip(MLP_INPUTS, first.weight.split([rows[name].shape[1] for name in MLP_INPUTS], dim=1)))
    vectors = table_of(gmf, MOVIE_ID)[movie]
    of_user = table_of(gmf, USER_ID)[user]
    (score,) = layers(last)
    return Cut(
        users=torch.cat([of_user, rows[USER_ID] @ weights[USER_ID].T], dim=1).numpy(),
        vectors=vectors.numpy(),
        hidden=(rows[MOVIE_ID] @ weights[MOVIE_ID].T + first.bias).numpy(),
        head=NCFHead(of_user.shape[1], nn.Sequential(*rest), score).eval(),
        embeddings=torch.cat([vectors, rows[MOVIE_ID]], dim=1).numpy(),
    )


NETWORKS.add(
    "ncf",
    Network(
        title="NCF",
        settings=NCFSettings,
        assemble=assemble,
        space={
            "top": OneOf(small=(32, 16), medium=(64, 32), deep=(64, 32, 16), wide=(128, 64, 32)),
            "dropout": Uniform(0.0, 0.6),
            "weight_decay": Log(1e-7, 1e-3),
            "pretraining": OneOf(0, 3),
        },
        cut=cut,
        against=against,
        branches=branches,
    ),
    position=20,
)
