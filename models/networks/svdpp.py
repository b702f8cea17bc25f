"""SVD++: matrix factorisation whose user is an embedding of its own, and the sum of what was rated before.

Koren, "Factorization Meets the Neighborhood", 2008, section 4, equation 15: a second embedding of each rated movie, and
their sum over the root of their number. Here a rating knows of the movies that came before it, not of those after.
"""

import merlin.models.torch as mm
from torch import nn

from models.data.features import Features
from models.networks._blocks import (
    BiasedDot,
    RatedBefore,
    RatedBeforeSettings,
    UserAndRatedBefore,
    biased_dots_against,
    id_embeddings,
)
from models.networks.base import NETWORKS, Network
from models.search_space import OneOf


def assemble(features: Features, settings: RatedBeforeSettings) -> nn.Module:
    """The network over the inputs of both ids and the history."""
    ids = id_embeddings(features, settings.dim + 1)
    return mm.Block(UserAndRatedBefore(ids, RatedBefore(features, settings.dim)), BiasedDot())


NETWORKS.add(
    "svdpp",
    Network(
        title="SVD++",
        settings=RatedBeforeSettings,
        assemble=assemble,
        history_length=lambda settings: settings.history,
        space={"dim": OneOf(16, 32, 64, 128), "history": OneOf(10, 20, 50, 100)},
        against=biased_dots_against,
        is_baseline=True,
        in_run=False,
    ),
    position=32,
)
