"""SVD++: matrix factorisation whose user is an embedding of its own, and the sum of what was rated before.

Koren, "Factorization Meets the Neighborhood", 2008, section 4, equation 15: a second embedding of each rated movie, and
their sum over the root of their number. Here a rating knows of the movies that came before it, not of those after.
"""

import merlin.models.torch as mm
from torch import Tensor, nn

from core.columns import MOVIE_ID, USER_ID
from models.data.batches import Batch
from models.data.features import Features
from models.networks._blocks import (
    BiasedDot,
    RatedBefore,
    RatedBeforeSettings,
    UserAndRatedBefore,
    id_embeddings,
    inputs_against,
    products_against,
)
from models.networks.base import NETWORKS, Network, Recommender
from models.search_space import OneOf


def assemble(features: Features, settings: RatedBeforeSettings) -> nn.Module:
    """The network over the inputs of both ids and the history."""
    ids = id_embeddings(features, settings.dim + 1)
    return mm.Block(UserAndRatedBefore(ids, RatedBefore(features, settings.dim)), BiasedDot())


def against(model: Recommender, batch: Batch) -> Tensor:
    """Scores of positives and of shared negatives, whose products are one matrix product."""
    block = next(module for module in model.modules() if isinstance(module, UserAndRatedBefore))
    vectors = block(inputs_against(model, batch))
    user = vectors[USER_ID]
    return products_against(user[:, :-1], vectors[MOVIE_ID]) + user[:, -1:] + model.offset


NETWORKS.add(
    "svdpp",
    Network(
        title="SVD++",
        settings=RatedBeforeSettings,
        assemble=assemble,
        history_length=lambda settings: settings.history,
        space={"dim": OneOf(16, 32, 64, 128), "history": OneOf(10, 20, 50, 100)},
        against=against,
        is_baseline=True,
        in_run=False,
    ),
    position=32,
)
