"""A trained network cut in three for serving: what depends on the user alone, on the movie alone, and the rest.

A first layer over [user's inputs, movie's inputs] is the sum of a product of each, so both can be worked out before
anyone asks. What is left, the head, sees rows of numbers: every user's and every movie's are kept in tables, and a
request looks up rows and runs the head. `recommend` needs one row of a user for the whole catalogue.

Each network's file cuts it: see `Network.cut` in `models/networks/base.py`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The rest of a network: (rows of `users`, of `vectors`, of `hidden`) to float32 [n], before scale and offset."""

    def for_one_user(self) -> "Head":
        """The same head for a single row of users, which goes with all movies."""
        return self

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        """float [n, user width] or [1, user width], [n, dim], [n, width] to float [n]."""
        raise TypeError(f"{type(self).__name__} has no forward pass")


class Answer(Head):
    """A head's scores as probabilities."""

    def __init__(self, head: Head, scale: Tensor, offset: Tensor):
        super().__init__()
        self.head = head
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def for_one_user(self) -> "Answer":
        return Answer(self.head.for_one_user(), self.scale, self.offset)

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        return torch.sigmoid(self.head(user, vector, hidden) * self.scale + self.offset)


class DotHead(Head):
    """A user's row is [embedding, bias], a movie's vector its embedding, and its hidden part its bias."""

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        return (user[:, :-1] * vector).sum(dim=1) + user[:, -1] + hidden[:, 0]


@dataclass(frozen=True, kw_only=True)
class HistoryInputs:
    """How a list of movies enters a user's row, where the network sees a history.

    Attributes:
        movies: float32 [movies, dim], the embeddings of movies that were watched before.
        position: float32 [2, length], weights by how long ago: for the movies, and for their stars; the latest first.
        history_columns: where the two pooled vectors stand in the row.
        recent_columns: where the recent means enter the row.
        recent_weights: float32 [windows, width], what each recent mean adds there.
    """

    movies: np.ndarray
    position: np.ndarray
    history_columns: slice
    recent_columns: slice
    recent_weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A network for serving.

    Attributes:
        users: float32 [users, user width], a row per user index.
        vectors: float32 [movies, dim], the movies' embeddings, a row per movie index.
        hidden: float32 [movies, width], what the movies bring to the first layer that has inputs of both.
        head: (rows of `users`, of `vectors`, of `hidden`) to float32 [n] scores: of a network's own cut those before
            scale and offset, of `models.networks.base.cut` probabilities.
        embeddings: float32 [movies, dims], all that was learned of each movie alone.
        history: None where the network sees no history.
        encoder: int64 [1, m] movie indices, m > 0, the latest last, to the float32 [1, user width] row of someone who
            rated these and no others. It can be traced for any m. None where a row holds more than that: what was
            learned of the user, or stars.
    """

    users: np.ndarray
    vectors: np.ndarray
    hidden: np.ndarray
    head: Head
    embeddings: np.ndarray
    history: HistoryInputs | None = None
    encoder: nn.Module | None = None
