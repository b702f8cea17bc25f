"""FISM: a user is nothing but the movies that were rated before, each with an embedding.

Kabbur, Ning and Karypis, "FISM: Factored Item Similarity Models for Top-N Recommender Systems", 2013: the similarity of
two movies is the dot product of two embeddings, and a score is the sum of the movie's similarities to those rated
before, over a power of their number, plus the movie's bias. A bias of the user would not change a ranking.
"""

from typing import Annotated, Dict  # noqa: UP035

import merlin.models.torch as mm
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from core.columns import MOVIE_ID
from core.json_files import STRICT
from models.data.batches import Batch
from models.data.features import Features
from models.networks._blocks import (
    RatedBefore,
    RatedBeforeSettings,
    id_embeddings,
    inputs_against,
    products_against,
)
from models.networks.base import NETWORKS, Network, Recommender
from models.search_space import OneOf, Uniform


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FISMSettings(RatedBeforeSettings):
    """Sizes of FISM.

    Attributes:
        alpha: the power of the number of movies that their sum is divided by: 0 for the sum, 1 for the mean.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5


class Similarities(nn.Module):
    """Of the movie to those that were rated before, and the bias in its last column. float [n, 1]."""

    def __init__(self, movie: nn.Module, rated: RatedBefore):
        super().__init__()
        self.movie, self.rated = movie, rated

    # typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        movie = self.movie(inputs)[MOVIE_ID]
        return (self.rated(inputs) * movie[:, :-1]).sum(dim=1, keepdim=True) + movie[:, -1:]


def assemble(features: Features, settings: FISMSettings) -> nn.Module:
    """The network over the inputs of the movie and the history."""
    movie = id_embeddings(features, settings.dim + 1, names=(MOVIE_ID,))
    return mm.Block(Similarities(movie, RatedBefore(features, settings.dim, settings.alpha)))


def against(model: Recommender, batch: Batch) -> Tensor:
    """Scores of positives and of shared negatives, whose products are one matrix product."""
    block = next(module for module in model.modules() if isinstance(module, Similarities))
    inputs = inputs_against(model, batch)
    return products_against(block.rated(inputs), block.movie(inputs)[MOVIE_ID]) + model.offset


NETWORKS.add(
    "fism",
    Network(
        title="FISM",
        settings=FISMSettings,
        assemble=assemble,
        history_length=lambda settings: settings.history,
        space={
            "dim": OneOf(16, 32, 64, 128),
            "history": OneOf(10, 20, 50, 100),
            "alpha": Uniform(0.0, 1.0),
        },
        against=against,
        tasks=("ranking",),
        is_baseline=True,
        in_run=False,
    ),
    position=34,
)
