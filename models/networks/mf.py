"""Matrix factorisation: a bias of the user, one of the movie, and the dot product of their embeddings.

The baseline that NCF must beat (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization Revisited",
2020). It sees ids only.
"""

import merlin.models.torch as mm
from torch import nn

from models.data.features import Features
from models.networks._blocks import BiasedDot
from models.networks.base import NETWORKS, Network, NetworkSettings, id_embeddings
from models.search_space import OneOf


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
