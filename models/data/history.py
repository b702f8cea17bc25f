"""What a user had rated before: what a network may know of a rating's past, and nothing that came after.

Every user's ratings lie in a row, in the order of time. A history is what comes before a place in that row. Ratings of
the same second are not before one another: which of them came first is not known, and where a page of movies is rated
at once they say too much of each other. A positive and its negatives share the positive's history, and a held-out movie
and all that it is ranked among share the user's history before it. Serving knows one history of each user: "now", after
everything.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from models.data.features import Features
from models.data.interactions import Interactions
from workflows.features.statistics import PRIOR_RATINGS

NOTHING = 0  # stands where there was no movie yet; Categorify's padding code
WINDOWS = (1, 3, 10, 30)  # ratings that a recent mean looks back over
USER_SHIFT = 32  # a place in time takes the lower bits of a key


@dataclass(frozen=True)
class History:
    """What users had rated before.

    Attributes:
        movies: int64 [n, length], the indices of the last movies, the latest first; `NOTHING` where there were fewer.
        stars: float32 [n, length], their stars above the movie's mean.
        recent_means: float32 [n, len(WINDOWS)], mean of the stars above the movie's mean over the last ratings, shrunk
            to 0.
        owner: int64 [samples], which of the n histories a sample has; None where every sample has its own.
    """

    movies: Tensor
    stars: Tensor
    recent_means: Tensor
    owner: Tensor | None = None

    def to(self, device: torch.device) -> "History":
        owner = None if self.owner is None else self.owner.to(device)
        return History(self.movies.to(device), self.stars.to(device), self.recent_means.to(device), owner)

    def of_samples(self, values: Tensor) -> Tensor:
        """What was worked out for each history, [n, ...], for each sample."""
        return values if self.owner is None else values.index_select(0, self.owner)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Every user's ratings in the order of time.

    Attributes:
        length: how many of the last movies a history names.
        keys: int64 [ratings], ascending: where a rating stands, by user and time.
        starts: int64 [users + 1], where each user's ratings start.
        movies: int32 [ratings].
        stars: float32 [ratings], above the movie's mean.
        sums: float64 [ratings + 1], running sums of `stars`.
    """

    length: int
    keys: Tensor
    starts: Tensor
    movies: Tensor
    stars: Tensor
    sums: Tensor

    @classmethod
    def of(cls, parts: list[Interactions], users: int, movies: int, length: int) -> "Timeline":
        """
        Args:
            parts: training rows, then, where the model may know them, validation rows.
            users, movies: rows of the side tables.
        """
        keys = torch.cat([_keys(part.user, part.later) for part in parts])
        movie, stars = (torch.cat([getattr(part, name) for part in parts]) for name in ("movie", "stars"))
        keys, order = torch.sort(keys)
        movie, stars = movie[order], stars[order].double()
        counts = torch.bincount(movie, minlength=movies)
        mean = stars.mean()
        means = (torch.bincount(movie, stars, movies) + PRIOR_RATINGS * mean) / (counts + PRIOR_RATINGS)
        above = stars - means[movie.long()]
        starts = torch.searchsorted(keys, torch.arange(users + 1) << USER_SHIFT)
        sums = torch.cat([above.new_zeros(1), above.cumsum(0)])
        return cls(length=length, keys=keys, starts=starts, movies=movie, stars=above.float(), sums=sums)

    def to(self, device: torch.device) -> "Timeline":
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "length"}
        return Timeline(length=self.length, **{name: tensor.to(device) for name, tensor in tensors.items()})

    def places(self, rows: Interactions) -> Tensor:
        """How many of its user's ratings in the timeline came before each row, of whatever split: int32 [n]."""
        return self.places_of(rows.user, rows.not_before)

    def places_of(self, user: Tensor, not_before: Tensor) -> Tensor:
        """The same for int32 [n] users and, of the row that is asked about, `Interactions.not_before`."""
        return (torch.searchsorted(self.keys, _keys(user, not_before)) - self.starts[user.long()]).int()

    def lengths(self) -> Tensor:
        """How many ratings each user has: int64 [users]."""
        return self.starts[1:] - self.starts[:-1]

    def at(self, user: Tensor, place: Tensor) -> History:
        """The histories at int64 [n] places of int64 [n] users."""
        start = self.starts[user]
        end = start + place
        back = torch.arange(self.length, device=user.device)
        there = back < place[:, None]
        position = torch.where(there, end[:, None] - 1 - back, 0)
        if len(self.movies):
            movies = torch.where(there, self.movies[position].long(), NOTHING)
            stars = torch.where(there, self.stars[position], 0.0)
        else:
            movies, stars = torch.full_like(position, NOTHING), position.float()
        recent = []
        for window in WINDOWS:
            first = torch.maximum(end - window, start)
            recent.append((self.sums[end] - self.sums[first]) / (end - first + 1))
        return History(movies, stars, torch.stack(recent, dim=1).float())

    def now(self) -> History:
        """Every user's history after all of their ratings: rows by user index."""
        lengths = self.lengths()
        return self.at(torch.arange(len(lengths), device=lengths.device), lengths)


def _keys(user: Tensor, later: Tensor) -> Tensor:
    """int64 [n], ascending by user, then time, of `later` each its own."""
    return user.long() << USER_SHIFT | (np.iinfo(np.int32).max - later.long())


def timeline(features: Features, parts: tuple[str, ...], length: int) -> Timeline:
    """The timeline of some splits of a protocol: `train`, or `train` and `valid`."""
    rows = [features.interactions(part) for part in parts]
    return Timeline.of(rows, features.users, features.movies, length)


def in_order(rows: Interactions) -> Tensor:
    """The order in which a timeline of these rows has them: int64 [n], row numbers."""
    return torch.argsort(_keys(rows.user, rows.later))


def later_among(rows: Interactions) -> Tensor:
    """How many of these rows are of the same user and came after each: int32 [n]."""
    order = in_order(rows)
    user = rows.user[order].long()
    last = torch.cumsum(torch.bincount(user), 0)[user] - 1
    later = torch.empty_like(rows.later)
    later[order] = (last - torch.arange(len(order))).int()
    return later
