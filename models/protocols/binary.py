"""What the protocols share whose labels are 0 or 1: the loss is taken from logits, the answer is a probability."""

from abc import ABC
from typing import TYPE_CHECKING

from models.protocols.base import Protocol, Questions

if TYPE_CHECKING:
    from torch import Tensor

    from models.data.features import Features
    from models.data.interactions import Interactions


class BinaryProtocol(Protocol[Questions], ABC):
    """A protocol with labels 0 and 1."""

    def label(self, rows: "Interactions") -> "Tensor":
        return rows.label

    def loss(self, outputs: "Tensor", label: "Tensor", weight: "Tensor | None") -> "Tensor":
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, label, weight)

    def answer(self, outputs: "Tensor") -> "Tensor":
        return outputs.sigmoid()

    def offset(self, features: "Features") -> float:
        return 0.0
