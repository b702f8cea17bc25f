"""Negatives that all positives of a step share, on the training device: many of them cost little."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workflows.features.vocabulary import FOLDS
from workflows.negatives import NegativeSampler


@dataclass(frozen=True)
class Shared:
    """Movies that were drawn for a whole step.

    Attributes:
        movie, fold: int64 [k]; the fold is random, and the movie's statistics leave it out.
        is_negative: bool [n, k], for which samples: not where the user has rated the movie in train.
    """

    movie: Tensor
    fold: Tensor
    is_negative: Tensor


def among(keys: Tensor, wanted: Tensor) -> Tensor:
    """Which of int64 [...] wanted keys are among int64 [m], which ascend: bool [...]."""
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    return keys[torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)] == wanted


class SharedNegatives:
    """Draws different movies of the catalogue for all samples of a step, uniformly."""

    def __init__(self, sampler: NegativeSampler, count: int, device: torch.device):
        """
        Args:
            sampler: knows the catalogue, and what users have rated.
            count: movies of a step; all of them, where the catalogue has no more.
        """
        self.first, self.movies, self.stride, self.count = sampler.first_movie, sampler.movies, sampler.stride, count
        self.pairs = torch.from_numpy(sampler.pairs()).to(device)

    def draw(self, users: Tensor, generator: torch.Generator) -> Shared:
        """Movies for samples of these users, int64 [n]."""
        device = users.device
        movie = self.first + torch.randperm(self.movies, generator=generator, device=device)[: self.count]
        fold = torch.randint(FOLDS, movie.shape, generator=generator, device=device)
        return Shared(movie, fold, ~self.has_rated(users, movie))

    def has_rated(self, user: Tensor, movie: Tensor) -> Tensor:
        """Which users, int64 [n], have rated which movies, int64 [k]: bool [n, k]."""
        wanted = user[:, None] * self.stride + movie - self.first
        return among(self.pairs, wanted)
