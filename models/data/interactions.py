"""Rows of a split, and the questions of where a held-out movie stands, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Rows of a split as index tensors, as narrow as they go: there are up to 32 million of them.

    Attributes:
        user, movie: int32 [n], indices.
        label: float32 [n], what a model learns: 0 or 1, or the stars.
        fold: int8 [n], the fold whose statistics leave this row out.
        later: int32 [n], how many ratings, of any split, the user gave after this one: the order of time.
        stars: float32 [n].
    """

    user: Tensor
    movie: Tensor
    label: Tensor
    fold: Tensor
    later: Tensor
    stars: Tensor

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device) -> "Interactions":
        """The same rows on a device."""
        return Interactions(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Candidates:
    """Questions, one for each user: `user`, `positive` int32 [n]; `negatives` int32 [n, 99], -1 for none."""

    user: np.ndarray
    positive: np.ndarray
    negatives: np.ndarray


def joined(parts: Sequence[Interactions]) -> Interactions:
    """The rows of several splits, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = [field.name for field in fields(Interactions)]
    return Interactions(**{name: torch.cat([getattr(part, name) for part in parts]) for name in columns})
