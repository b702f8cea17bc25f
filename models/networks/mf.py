"""Matrix factorisation: a bias of the user, one of the movie, and the dot product of their embeddings.

The baseline that NCF must beat (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization Revisited",
2020). It sees ids only.
"""

from typing import Dict  # noqa: UP035

import merlin.models.torch as mm
from torch import Tensor, nn

from core.columns import MOVIE_ID, USER_ID
from models.data.features import Features
from models.networks.base import NETWORKS, Network, NetworkSettings, id_embeddings
from models.search_space import OneOf


class BiasedDot(nn.Module):
    """The interaction: the last column of each embedding is a bias. float [n, 1]."""

    # typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        user, movie = inputs[USER_ID], inputs[MOVIE_ID]
        product = (user[:, :-1] * movie[:, :-1]).sum(dim=1, keepdim=True)
        return product + user[:, -1:] + movie[:, -1:]


def assemble(features: Features, settings: NetworkSettings) -> nn.Module:
    """The network over the inputs of both ids."""
    return mm.Block(id_embeddings(features, settings.dim + 1), BiasedDot())


NETWORKS.add(
    "mf",
    Network(
        title="Matrix factorisation (MF)",
        settings=NetworkSettings,
        assemble=assemble,
        space={"dim": OneOf(16, 32, 64, 128)},
        is_baseline=True,
    ),
    position=30,
)
