"""Negatives that all positives of a step share, on the training device: many of them cost little."""

from dataclasses import dataclass

import numpy as np
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
        log_chance: float32, of each movie index the logarithm of its chance to be drawn; None where all are alike.
    """

    movie: Tensor
    fold: Tensor
    is_negative: Tensor
    log_chance: Tensor | None = None


def among(keys: Tensor, wanted: Tensor) -> Tensor:
    """Which of int64 [...] wanted keys are among int64 [m], which ascend: bool [...]."""
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    return keys[torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)] == wanted


class SharedNegatives:
    """Draws different movies of the catalogue for all samples of a step."""

    def __init__(self, sampler: NegativeSampler, count: int, device: torch.device, popularity: float = 0.0):
        """
        Args:
            sampler: knows the catalogue, and what users have rated.
            count: movies of a step; all of them, where the catalogue has no more.
            popularity: a movie's share in the draws grows with this power of its ratings (and one more); 0 for all
                alike.
        """
        self.first, self.movies, self.stride = sampler.first_movie, sampler.movies, sampler.stride
        self.count = min(count, sampler.movies)
        pairs = sampler.pairs()
        self.pairs = torch.from_numpy(pairs).to(device)
        self.shares = self.log_chance = None
        if popularity and self.count < self.movies:
            ratings = torch.from_numpy(np.bincount(pairs % self.stride, minlength=self.movies)).double()
            weights = (ratings + 1) ** popularity
            shares = weights / weights.sum()
            chance = -torch.expm1(self.count * torch.log1p(-shares))  # to be among so many draws
            self.shares = shares.float().to(device)
            self.log_chance = torch.cat([torch.zeros(self.first), chance.log().float()]).to(device)

    def draw(self, users: Tensor, generator: torch.Generator) -> Shared:
        """Movies for samples of these users, int64 [n]."""
        device = users.device
        if self.shares is None:
            movie = self.first + torch.randperm(self.movies, generator=generator, device=device)[: self.count]
        else:
            movie = self.first + torch.multinomial(self.shares, self.count, generator=generator)
        fold = torch.randint(FOLDS, movie.shape, generator=generator, device=device)
        return Shared(movie, fold, ~self.has_rated(users, movie), self.log_chance)

    def has_rated(self, user: Tensor, movie: Tensor) -> Tensor:
        """Which users, int64 [n], have rated which movies, int64 [k]: bool [n, k]."""
        wanted = user[:, None] * self.stride + movie - self.first
        return among(self.pairs, wanted)
