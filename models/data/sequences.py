"""What an epoch is made of for a network that reads sequences: users' ratings in the order of time.

One pass over a user's last movies gives a state after each of them. A rating is learned from the state after the last
movie that was rated before its second, so all ratings of one second are learned from the same state.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.errors import UserError
from models.data.batches import Sampling, are_drawn, epoch_seed, expected, recency_weights
from models.data.history import NOTHING, Timeline, in_order, later_among
from models.data.interactions import Interactions
from models.data.shared_negatives import Shared, SharedNegatives
from workflows.features.vocabulary import FIRST_INDEX
from workflows.negatives import NegativeSampler

LENGTHS_AT_ONCE = 16  # steps whose users are ordered by the lengths of their histories, which saves padding


@dataclass(frozen=True, kw_only=True)
class SequenceBatch:
    """Ratings of some users.

    Attributes:
        inputs: int64 [users, width], movie indices, the oldest first; `NOTHING` after the last one.
        lengths: int64 [users], how many movies there are.
        movie: int64 [n], the movie of each rating.
        owner, state: int64 [n], the row and the column of `inputs` after which it is learned.
        weight: float32 [n], or None where all count the same.
        shared: what the ratings are told from.
    """

    inputs: Tensor
    lengths: Tensor
    movie: Tensor
    owner: Tensor
    state: Tensor
    weight: Tensor | None
    shared: Shared

    def __len__(self) -> int:
        return len(self.movie)

    def movies(self) -> Tensor:
        """The ratings' movies and then the shared ones, int64 [n + k]."""
        return torch.cat([self.movie, self.shared.movie])


class SequenceBatches:
    """The training ratings of a protocol, for each user the last ones: as many as the network's history is long."""

    def __init__(
        self, rows: Interactions, rated_movies: int, sampling: Sampling, device: torch.device, *, past: Timeline | None
    ):
        """
        Args:
            rows: all ratings of `past`.
            rated_movies: how many movies the catalogue has.
            past: of these rows.

        Raises:
            ValueError: there is no past.
            UserError: nobody rated anything before something else.
        """
        if past is None:
            raise ValueError("a network that learns from sequences needs a history")
        order = in_order(rows)
        self.length, self.device, self.seed, self.rows_per_step = (
            past.length,
            device,
            sampling.seed,
            sampling.batch_size,
        )
        self.starts, self.movies = past.starts.to(device), past.movies.long().to(device)
        self.before = past.places(rows)[order].long().to(device)
        weight = recency_weights(later_among(rows), sampling.recency)[order].to(device) if sampling.recency else None
        self.weight: Tensor | None = None
        self.chance: Tensor | None = None
        sampler = NegativeSampler(rows.user.numpy(), rows.movie.numpy(), FIRST_INDEX, rated_movies)
        count = sampling.shared_negatives or rated_movies
        self.shared = SharedNegatives(sampler, count, device, sampling.popularity)
        counts = self.starts[1:] - self.starts[:-1]
        self.users = torch.nonzero(counts > 1).squeeze(1)
        self.widths = (counts[self.users] - 1).clamp(max=self.length)
        learned = torch.cat([self._ratings(users)[0] for users in self.users.split(1 << 12)] or [self.users])
        if not len(learned):
            raise UserError(
                "no rating of train has another one of its user before it, at an earlier second: "
                "there is no next movie to learn; train a network that does not learn from sequences"
            )
        self.samples = self.samples_at_most = len(learned)
        if weight is not None and sampling.recency_draws:
            self.chance = weight / weight[learned].max()  # of those that can be drawn, the heaviest is certain
            self.samples = expected(len(learned), self.chance[learned])
        else:
            self.weight = weight

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """The batches of an epoch, in random order."""
        generator = torch.Generator(self.device).manual_seed(epoch_seed(self.seed, number))
        steps = []
        order = torch.randperm(len(self.users), generator=generator, device=self.device)
        together = max(1, LENGTHS_AT_ONCE * self.rows_per_step * len(order) // max(1, int(self.widths.sum())))
        for chunk in order.split(together):
            chunk = chunk[torch.argsort(self.widths[chunk], stable=True)]
            step = torch.div(torch.cumsum(self.widths[chunk], 0) - 1, self.rows_per_step, rounding_mode="floor")
            steps += chunk.split(torch.unique_consecutive(step, return_counts=True)[1].tolist())
        for place in torch.randperm(len(steps), generator=generator, device=self.device).tolist():
            batch = self._batch(self.users[steps[place]], generator)
            if len(batch):
                yield batch

    def _ratings(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is learned of these users: places in the timeline, rows and columns of the inputs, int64 [n] each."""
        first, widths = self._windows(users)
        column = torch.arange(int(widths.max()) if len(widths) else 0, device=self.device)
        place = (self.starts[users] + first)[:, None] + 1 + column
        there = column < widths[:, None]
        state = self.before[torch.where(there, place, 0)] - 1 - first[:, None]
        owner, at = torch.nonzero(there & (state >= 0), as_tuple=True)
        return place[owner, at], owner, state[owner, at]

    def _windows(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The first input of each user, counted from the user's first rating, and how many there are: int64 [users]."""
        counts = self.starts[users + 1] - self.starts[users]
        widths = (counts - 1).clamp(max=self.length)
        return counts - 1 - widths, widths

    def _batch(self, users: Tensor, generator: torch.Generator) -> SequenceBatch:
        place, owner, state = self._ratings(users)
        if self.chance is not None:
            drawn = are_drawn(self.chance[place], generator)
            place, owner, state = place[drawn], owner[drawn], state[drawn]
        first, widths = self._windows(users)
        column = torch.arange(int(widths.max()), device=self.device)
        there = column < widths[:, None]
        inputs = self.movies[torch.where(there, (self.starts[users] + first)[:, None] + column, 0)]
        shared = self.shared.draw(users, generator)
        return SequenceBatch(
            inputs=torch.where(there, inputs, NOTHING),
            lengths=widths,
            movie=self.movies[place],
            owner=owner,
            state=state,
            weight=None if self.weight is None else self.weight[place],
            shared=replace(shared, is_negative=shared.is_negative[owner]),
        )
