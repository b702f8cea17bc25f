"""What an epoch is made of: batches as slices of a shuffled epoch, with negatives drawn for many rows at once.

Rows stay in memory as narrow index tensors on the training device (25 bytes a rating), so an epoch copies nothing.
Everything random of an epoch comes from the seed and the epoch's number alone: training that was killed resumes with
the same draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.data.history import History, Timeline, later_among
from models.data.interactions import Interactions
from models.data.shared_negatives import Shared, SharedNegatives
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler

LEAST_WEIGHT = 0.05
DRAW_ROWS = 1 << 20  # positives whose negatives are drawn together


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one step.

    Attributes:
        user, movie, fold: int64 [n], as `Recommender` takes them.
        label: float32 [n].
        weight: float32 [n], or None where all count the same.
        history: of each sample; None where the network knows of none.
        shared: what all samples, which are positives then, are told from; None where each has negatives of its own.
    """

    user: Tensor
    movie: Tensor
    fold: Tensor
    label: Tensor
    weight: Tensor | None
    history: History | None
    shared: Shared | None = None

    def __len__(self) -> int:
        return len(self.user)

    def negatives(self) -> Shared:
        """What the samples share.

        Raises:
            ValueError: nothing.
        """
        if self.shared is None:
            raise ValueError("the samples share no negatives")
        return self.shared

    def movies(self) -> Tensor:
        """The samples' movies and then the shared ones, int64 [n + k]."""
        return torch.cat([self.movie, self.negatives().movie])


def all_shared(user: Tensor, movies: Tensor, history: History | None) -> Batch:
    """Users who share all movies that are asked about, with nothing left out of any statistics.

    Args:
        user, movies: int64 [n] and int64 [k]; the first movie stands as every user's own, too.
        history: of each user; None where the network knows of none.
    """
    nothing, everyone = torch.full_like(movies, FOLDS), movies.new_ones((len(user), len(movies)), dtype=torch.bool)
    return Batch(
        user=user,
        movie=movies[:1].expand(len(user)),
        fold=nothing[:1].expand(len(user)),
        label=torch.ones(len(user), device=user.device),
        weight=None,
        history=history,
        shared=Shared(movies, nothing, everyone),
    )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How training samples are made.

    Attributes:
        batch_size: samples per step; rows where negatives are shared.
        negatives: movies drawn for each row; 0 for none.
        shared_negatives: movies drawn for each step, in the place of those; 0 for none.
        popularity: of these, how much a movie's ratings count in its chance; 0 for all alike.
        recency: half-life of a row's weight, in ratings; 0 for equal weights.
        recency_draws: whether the weight is a row's chance to be in an epoch; else it is that of its loss.
        seed: of the order and of what is drawn.
    """

    batch_size: int
    negatives: int = 0
    shared_negatives: int = 0
    popularity: float = 0.0
    recency: float = 0.0
    recency_draws: bool = False
    seed: int = 0


class Batches:
    """The training samples of a protocol.

    Where negatives are drawn, each row brings so many new movies that its user has not rated in train, in its own
    batch. A negative's weight is its positive's. Its statistics leave out a random fold, and a positive's its own, so
    both are of all folds but one. They still differ by the label: a positive's fold holds its own rating for certain,
    while a negative has none to leave out. On average a movie (and a user) counts one rating less as a positive than
    as a negative, which a network can tell where a movie has few ratings. Validation, test and serving leave nothing
    out.
    """

    def __init__(
        self,
        rows: Interactions,
        rated_movies: int,
        sampling: Sampling,
        device: torch.device,
        *,
        past: Timeline | None = None,
    ):
        """
        Args:
            rated_movies: how many movies the catalogue has that negatives are drawn from.
            past: what came before each row, where the network knows of histories.
        """
        self.places = past.places(rows).to(device) if past else None
        self.timeline = past.to(device) if past else None
        self.rows = rows.to(device)
        self.device, self.seed, self.shared_negatives = device, sampling.seed, sampling.shared_negatives
        self.negatives = 0 if self.shared_negatives else sampling.negatives
        self.rows_per_step = max(1, sampling.batch_size // (1 + self.negatives))
        weight = recency_weights(later_among(rows), sampling.recency).to(device) if sampling.recency else None
        draws = weight is not None and sampling.recency_draws
        self.weight = None if draws else weight
        self.chance = weight / weight.max() if weight is not None and draws else None  # the heaviest are certain
        if self.negatives or self.shared_negatives:
            sampler = NegativeSampler(rows.user.numpy(), rows.movie.numpy(), FIRST_INDEX, rated_movies)
            if self.shared_negatives:
                self.shared = SharedNegatives(sampler, self.shared_negatives, device, sampling.popularity)
            else:
                self.unseen = UnseenMovies(sampler, device)

    @property
    def samples(self) -> int:
        """Samples of an epoch, the negatives included; where rows are drawn, how many are expected."""
        return expected(len(self.rows), self.chance) * (1 + self.negatives)

    @property
    def samples_at_most(self) -> int:
        """Samples of an epoch with every row."""
        return len(self.rows) * (1 + self.negatives)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, in random order."""
        generator = torch.Generator(self.device).manual_seed(epoch_seed(self.seed, number))
        order = torch.randperm(len(self.rows), generator=generator, device=self.device, dtype=torch.int32)
        if self.chance is not None:
            order = order[are_drawn(self.chance[order.long()], generator)]
        if not self.negatives:
            for rows in order.split(self.rows_per_step):
                batch = self._batch(rows.long())
                yield replace(batch, shared=self.shared.draw(batch.user, generator)) if self.shared_negatives else batch
            return
        whole_steps = max(1, DRAW_ROWS // self.rows_per_step) * self.rows_per_step
        for chunk in order.split(whole_steps):
            drawn = self._draw(chunk, generator)
            folds = torch.randint(FOLDS, drawn.shape, generator=generator, device=self.device, dtype=torch.int8)
            parts = (part.split(self.rows_per_step) for part in (chunk, drawn, folds))
            for rows, movies, fold in zip(*parts):
                yield self._batch(rows.long(), movies, fold)

    def _draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """int32 [rows, negatives]. Searched in the order of the users, which finds their movies in the cache."""
        ascending, place = torch.sort(rows)
        users = self.rows.user[ascending.long()].long()
        drawn = torch.empty((len(rows), self.negatives), dtype=torch.int32, device=self.device)
        drawn[place] = self.unseen.draw(users, self.negatives, generator).int()
        return drawn

    def _batch(self, rows: Tensor, movies: Tensor | None = None, folds: Tensor | None = None) -> Batch:
        table = self.rows
        user, movie, fold, label = table.user[rows], table.movie[rows], table.fold[rows], table.label[rows]
        weight = None if self.weight is None else self.weight[rows]
        history = None
        if self.timeline is not None and self.places is not None:
            history = self.timeline.at(user.long(), self.places[rows].long())
        if movies is not None and folds is not None:
            count = self.negatives
            user = torch.cat([user, user.repeat_interleave(count)])
            movie = torch.cat([movie, movies.reshape(-1)])
            fold = torch.cat([fold, folds.reshape(-1)])
            label = torch.cat([label, label.new_zeros(len(rows) * count)])
            weight = None if weight is None else torch.cat([weight, weight.repeat_interleave(count)])
            if history is not None:  # a positive's, which its negatives share
                positive = torch.arange(len(rows), device=self.device)
                history = replace(history, owner=torch.cat([positive, positive.repeat_interleave(count)]))
        return Batch(
            user=user.long(), movie=movie.long(), fold=fold.long(), label=label, weight=weight, history=history
        )


class UnseenMovies:
    """`NegativeSampler.draw` on the training device."""

    def __init__(self, sampler: NegativeSampler, device: torch.device):
        self.sampler = sampler
        self.keys, self.starts = (torch.from_numpy(part).to(device) for part in (sampler.keys, sampler.starts))

    def draw(self, user: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Movies that each user has not rated, uniformly and with replacement.

        Args:
            user: int64 [n], of users that have rated something.

        Returns:
            int64 [n, count] of movie indices.
        """
        start = self.starts[user]
        unseen = self.sampler.movies - (self.starts[user + 1] - start)
        if bool((unseen < 1).any()):
            raise ValueError("a user has seen every movie of the catalogue; there is nothing to draw")
        chance = torch.rand((len(user), count), generator=generator, device=user.device, dtype=torch.float64)
        rank = (chance * unseen[:, None]).long()
        found = torch.searchsorted(self.keys, user[:, None] * self.sampler.stride + rank, right=True)
        return self.sampler.first_movie + rank + found - start[:, None]


def epoch_seed(seed: int, number: int) -> int:
    """A seed for everything random of one epoch."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def recency_weights(later: Tensor, half_life: float) -> Tensor:
    """float32 [n] with mean 1, from how many of the user's ratings came later."""
    weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * 0.5 ** (later / half_life)
    return (weight / weight.mean()).float()


def are_drawn(chance: Tensor, generator: torch.Generator) -> Tensor:
    """bool [n], each with its chance."""
    return torch.rand(chance.shape, generator=generator, device=chance.device) < chance


def expected(rows: int, chance: Tensor | None) -> int:
    """How many rows of an epoch are expected."""
    return rows if chance is None else round(float(chance.double().sum()))
