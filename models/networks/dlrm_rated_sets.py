"""DLRM that also sees every movie that the user has rated, and every user who has rated the movie.

Two more vectors meet the others in dot products: the sum of the embeddings of the user's movies over the root of their
number, as in SVD++ (Koren, "Factorization Meets the Neighborhood", 2008), and the same of the movie's users, its "flip"
(Rendle, Zhang and Koren, "On the Difficulty of Evaluating Baselines", 2019). The rating in question is never in its own
sets: in training it is left out, and a held-out rating is in none. A set knows no time, so this is for protocols that
have none either.
"""

from dataclasses import replace
from typing import Dict  # noqa: UP035

import torch
from torch import Tensor, nn

from core.columns import MOVIE_ID, USER_ID
from models.data.features import Features
from models.data.interactions import joined
from models.data.shared_negatives import among
from models.networks._pooled import summed
from models.networks.base import NETWORKS, in_vocabulary
from models.networks.dlrm import DLRM, DLRMSettings, inputs_of, scored
from workflows.features.vocabulary import FIRST_INDEX

USER_SET, MOVIE_SET = "rated_movies", "rating_users"


def assemble(features: Features, settings: DLRMSettings) -> nn.Module:
    """The network over all inputs and both sets."""
    return scored(SetsBlock(inputs_of(features, settings), features, settings), features, settings)


class SetsBlock(nn.Module):
    """DLRM's inputs, with a vector of the user's set and one of the movie's."""

    def __init__(self, inputs: nn.Module, features: Features, settings: DLRMSettings):
        super().__init__()
        self.inputs = inputs
        rows = joined([features.interactions(part) for part in features.known])
        sizes = features.user_embeddings, features.movie_embeddings
        user, movie = (in_vocabulary(index.long(), size) for index, size in zip((rows.user, rows.movie), sizes))
        both = (user >= FIRST_INDEX) & (movie >= FIRST_INDEX)  # what rare ids share stands for none of them
        pairs = torch.unique(torch.stack([user[both], movie[both]], dim=1), dim=0)
        self.register_buffer("pairs", pairs[:, 0] * sizes[1] + pairs[:, 1], persistent=False)
        self.of_user = SetSum(pairs[:, 0], pairs[:, 1], sizes, settings)
        self.of_movie = SetSum(pairs[:, 1], pairs[:, 0], sizes[::-1], settings)
        self.movies = sizes[1]

    # typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Dict[str, Tensor]:  # noqa: UP006
        vectors = self.inputs(inputs)
        user, movie = inputs[USER_ID], inputs[MOVIE_ID]
        left_out = self.has(user, movie) if self.training else None
        vectors[USER_SET] = self.of_user(user, movie, left_out)
        vectors[MOVIE_SET] = self.of_movie(movie, user, left_out)
        return vectors

    def has(self, user: Tensor, movie: Tensor) -> Tensor:
        """Which pairs, of int64 [n] rows of both tables, are in the sets: bool [n]."""
        return among(self.pairs, user * self.movies + movie)


class SetSum(nn.Module):
    """The sum of the embeddings of an owner's members, over the root of how many there are: float [n, dim]."""

    def __init__(self, owner: Tensor, member: Tensor, sizes: tuple[int, int], settings: DLRMSettings):
        """
        Args:
            owner, member: int64 [pairs], rows; each pair once.
            sizes: how many owners and how many members there are.
        """
        super().__init__()
        order = torch.argsort(owner, stable=True)
        starts = torch.searchsorted(owner[order], torch.arange(sizes[0] + 1))
        self.register_buffer("members", member[order], persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self.weight = nn.Parameter(torch.randn(sizes[1], settings.dim) * settings.init_std)

    def forward(self, owner: Tensor, member: Tensor, left_out: Tensor | None) -> Tensor:
        """
        Args:
            owner, member: int64 [n].
            left_out: bool [n], where the member is not to count; None for nowhere.
        """
        owners, place = torch.unique(owner, return_inverse=True)
        first = self.starts[owners]
        count = self.starts[owners + 1] - first
        ends = count.cumsum(0)
        position = torch.arange(int(count.sum()), device=owner.device)
        position += (first - ends + count).repeat_interleave(count)
        starts = torch.cat([ends.new_zeros(1), ends])
        sums = summed(self.weight, self.members[position], starts)[place]
        count = count[place]
        if left_out is not None:
            sums = sums - self.weight[member] * left_out[:, None]
            count = count - left_out.long()
        return sums * count.clamp(min=1).float().rsqrt()[:, None]


NETWORKS.add(
    "dlrm-rated-sets",
    replace(
        DLRM,
        title="DLRM with rated sets",
        assemble=assemble,
        tasks=("classification", "rating"),
        cut=None,
        against=None,
        is_baseline=True,
        in_run=False,
    ),
    position=35,
)
