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
        not_before: int32 [n], how many of the user's other ratings, of any split, do not count as given before this
            one: the later ones and, unless `prepare` was asked otherwise, those of the same second.
        stars: float32 [n].
    """

    user: Tensor
    movie: Tensor
    label: Tensor
    fold: Tensor
    later: Tensor
    not_before: Tensor
    stars: Tensor

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device) -> "Interactions":
        """The same rows on a device."""
        return Interactions(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Candidates:
    """What held-out movies are ranked among, a question each.

    Attributes:
        user, positive: int32 [n], indices; a user is asked about once.
        negatives: int32 [n, 99], movie indices, -1 where there are fewer.
        not_before: int32 [n], of the held-out rating: see `Interactions`.
    """

    user: np.ndarray
    positive: np.ndarray
    negatives: np.ndarray
    not_before: np.ndarray

    def at(self, places: np.ndarray) -> "Candidates":
        """The questions at int64 [m] places."""
        return Candidates(*(getattr(self, field.name)[places] for field in fields(self)))


def joined(parts: Sequence[Interactions]) -> Interactions:
    """The rows of several splits, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = [field.name for field in fields(Interactions)]
    return Interactions(**{name: torch.cat([getattr(part, name) for part in parts]) for name in columns})
