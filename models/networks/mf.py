"""Matrix factorisation: a bias of the user, one of the movie, and the dot product of their embeddings.

The baseline that NCF must beat (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization Revisited",
2020). It sees ids only.
"""

import merlin.models.torch as mm
import torch
from torch import Tensor, nn

from core.columns import MOVIE_ID, USER_ID
from models.cut import Cut, DotHead
from models.data.features import Features
from models.networks._blocks import BiasedDot, biased_dots_against, id_embeddings, table_of
from models.networks.base import NETWORKS, Network, NetworkSettings, Recommender
from models.search_space import OneOf


def assemble(features: Features, settings: NetworkSettings) -> nn.Module:
    """The network over the inputs of both ids."""
    return mm.Block(id_embeddings(features, settings.dim + 1), BiasedDot())


def cut(model: Recommender, users: Tensor, movies: Tensor) -> Cut:
    """Rows of the embedding tables."""
    user = model.codes(users, torch.zeros_like(users))[USER_ID]
    movie = model.codes(torch.zeros_like(movies), movies)[MOVIE_ID]
    rows = table_of(model.network, MOVIE_ID)[movie]
    vectors = rows[:, :-1].contiguous().numpy()
    return Cut(
        users=table_of(model.network, USER_ID)[user].numpy(),
        vectors=vectors,
        hidden=rows[:, -1:].contiguous().numpy(),
        head=DotHead().eval(),
        embeddings=vectors,
    )


NETWORKS.add(
    "mf",
    Network(
        title="Matrix factorisation (MF)",
        settings=NetworkSettings,
        assemble=assemble,
        space={"dim": OneOf(16, 32, 64, 128)},
        cut=cut,
        against=biased_dots_against,
        is_baseline=True,
    ),
    position=30,
)
