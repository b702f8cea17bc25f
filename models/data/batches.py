"""What an epoch is made of: batches as slices of a shuffled epoch, with negatives drawn for many rows at once.

Rows stay in memory as narrow index tensors on the training device (21 bytes a rating), so an epoch copies nothing.
Everything random of an epoch comes from the seed and the epoch's number alone: training that was killed goes on with
the same draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from core.run_folder import RATING_PROTOCOL
from models.data.features import Features, Interactions
from models.data.history import Moment, Timeline, later_among
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler

LEAST_WEIGHT = 0.05
DRAW_ROWS = 1 << 20  # positives whose negatives are drawn together


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes:
        user, movie, fold: int64 [n], as `Recommender` takes them.
        label: float32 [n].
        weight: float32 [n], or None where all count the same.
        moment: of each sample; None where the model knows of none.
    """

    user: Tensor
    movie: Tensor
    fold: Tensor
    label: Tensor
    weight: Tensor | None
    moment: Moment | None

    def __len__(self) -> int:
        return len(self.user)


class Batches:
    """The training samples of a protocol.

    In leave-one-out each positive brings `negatives` new movies that its user has not rated in train, in its own batch.
    A negative's statistics leave out a random fold, as a positive's do, so that the fold tells nothing about the label;
    its weight is its positive's.
    """

    def __init__(
        self,
        rows: Interactions,
        features: Features,
        device: torch.device,
        batch_size: int,
        negatives: int,
        recency: float,
        seed: int,
        timeline: Timeline | None = None,
        places: Tensor | None = None,
    ):
        """
        Args:
            timeline, places: of the rows' moments, where the model knows of moments: `Timeline.places` of the rows.
        """
        self.timeline = timeline and timeline.to(device)
        self.places = None if places is None else places.to(device)
        self.rows = rows.to(device)
        self.device, self.seed = device, seed
        self.predicts_stars = features.protocol == RATING_PROTOCOL
        self.negatives = negatives if features.protocol == "leave-one-out" else 0
        self.rows_per_step = max(1, batch_size // (1 + self.negatives))
        self.weight = recency_weights(later_among(rows), recency).to(device) if recency else None
        if self.negatives:
            sampler = NegativeSampler(rows.user.numpy(), rows.movie.numpy(), FIRST_INDEX, features.rated_movies)
            self.unseen = UnseenMovies(sampler, device)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch: of logits the cross-entropy, of stars the squared error."""
        if self.predicts_stars:
            return mse_loss(scores, batch.label)
        return binary_cross_entropy_with_logits(scores, batch.label, batch.weight)

    @property
    def samples(self) -> int:
        """Samples of an epoch, the negatives included."""
        return len(self.rows) * (1 + self.negatives)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, in random order."""
        generator = torch.Generator(self.device).manual_seed(epoch_seed(self.seed, number))
        order = torch.randperm(len(self.rows), generator=generator, device=self.device, dtype=torch.int32)
        if not self.negatives:
            for rows in order.split(self.rows_per_step):
                yield self._batch(rows.long())
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
        user, movie, fold, label = (getattr(table, name)[rows] for name in ("user", "movie", "fold", "label"))
        weight = None if self.weight is None else self.weight[rows]
        moment = None
        if self.timeline is not None and self.places is not None:
            moment = self.timeline.at(user.long(), self.places[rows].long())
        if movies is not None and folds is not None:
            count = self.negatives
            user = torch.cat([user, user.repeat_interleave(count)])
            movie = torch.cat([movie, movies.reshape(-1)])
            fold = torch.cat([fold, folds.reshape(-1)])
            label = torch.cat([label, label.new_zeros(len(rows) * count)])
            weight = None if weight is None else torch.cat([weight, weight.repeat_interleave(count)])
            if moment is not None:  # a positive's, which its negatives share
                positive = torch.arange(len(rows), device=self.device)
                moment = replace(moment, owner=torch.cat([positive, positive.repeat_interleave(count)]))
        return Batch(user.long(), movie.long(), fold.long(), label, weight, moment)


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
