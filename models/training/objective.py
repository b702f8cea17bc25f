"""What a step of training minimises: a protocol's loss of each sample, or a softmax over shared negatives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from models.data.batches import Batch
from models.networks.base import Recommender

# Only differences between scores are learned from a softmax. So far below 0, their sigmoids stay apart in float32.
SOFTMAX_OFFSET = -10.0


class Objective(Protocol):
    """A loss in two steps, as only the first is taken in low precision."""

    def outputs(self, model: Recommender, batch: Any) -> Tensor:
        """What the model says of a batch."""

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """The mean loss of float32 outputs."""


@dataclass(frozen=True)
class EachSample:
    """A loss of every sample by itself.

    Attributes:
        of: (outputs, labels, weights or None), float32 [n] each, to the mean loss.
    """

    of: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def outputs(self, model: Recommender, batch: Batch) -> Tensor:
        """float [n]."""
        return model(batch.user, batch.movie, batch.fold, batch.history)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.of(outputs, batch.label, batch.weight)


class SharedSoftmax:
    """Minus the logarithm of a positive's share in a softmax over itself and the negatives that the step shares."""

    def outputs(self, model: Recommender, batch: Any) -> Tensor:
        """float [n, 1 + k], the positive's first."""
        return model.against(batch)

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return softmax_loss(without_chance(outputs, batch), batch.shared.is_negative, batch.weight)


def without_chance(scores: Tensor, batch: Any) -> Tensor:
    """Scores, float [n, 1 + k], less the logarithm of each movie's chance to be drawn, where that differs.

    Otherwise a softmax over a sample learns how much likelier a movie is than it is to be drawn (Jean et al., "On
    Using Very Large Target Vocabulary", 2015, section 3).
    """
    chance = batch.shared.log_chance
    if chance is None:
        return scores
    own = chance[batch.movie][:, None]
    return scores - torch.cat([own, chance[batch.shared.movie].expand(len(own), -1)], dim=1)


def softmax_loss(scores: Tensor, is_negative: Tensor, weight: Tensor | None) -> Tensor:
    """The mean loss of positives, each by its weight.

    Args:
        scores: float32 [n, 1 + k], the positive's first.
        is_negative: bool [n, k], which of the others count.
        weight: float32 [n], or None where all weigh 1.
    """
    own = scores[:, :1]
    others = scores[:, 1:].masked_fill(~is_negative, -torch.inf)
    losses = (torch.logsumexp(torch.cat([own, others], dim=1), dim=1, keepdim=True) - own).squeeze(1)
    return (losses if weight is None else losses * weight).mean()
