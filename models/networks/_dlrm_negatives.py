"""DLRM's scores of positives and of negatives that they share, in matrix products."""

from itertools import combinations

import torch
from torch import Tensor, nn

from core.columns import CONTINUOUS, HISTORY, HISTORY_STARS, MOVIE_ID
from models.data.batches import Batch
from models.networks._blocks import layers, trained_layers
from models.networks.base import CONTINUOUS_BLOCKS, Recommender


def against(model: Recommender, batch: Batch) -> Tensor:
    """Scores of positives and of shared negatives.

    What a user, and what a movie, brings is worked out once for each, and products of vectors are matrix products.
    """
    body, output_layer = model.network.values
    block, _, top = body.values
    tables = dict(model.embedding_tables())
    codes, history, n = model.codes(batch.user, batch.movie), batch.history, len(batch)
    of_user = {name: tables[name](rows) for name, rows in codes.items() if name != MOVIE_ID}
    if history is not None:
        pooled = block.pooled(model.movie_rows(history.movies), history.stars)
        of_user |= {HISTORY: pooled[:, 0], HISTORY_STARS: pooled[:, 1]}
    movie = tables[MOVIE_ID](model.movie_rows(batch.movies()))
    bottom = (block.inputs if model.uses_history else block).branches[CONTINUOUS]
    own, shared = _continuous_vectors(model, batch, trained_layers(bottom))
    names, users = sorted(of_user), torch.stack([of_user[name] for name in sorted(of_user)], dim=1)
    products = _Products(names, trained_layers(top)[0])
    rest = nn.Sequential(*trained_layers(top)[1:], *layers(output_layer))
    of_own = products(users, (movie[:n, None] * users).sum(dim=2), own, movie[:n])
    of_shared = products(users, (users @ movie[n:].T).transpose(1, 2), shared, movie[n:])
    return torch.cat([rest(of_own), rest(of_shared).squeeze(2)], dim=1) + model.offset


def _continuous_vectors(model: Recommender, batch: Batch, bottom: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """The bottom MLP's output for positives, float [n, dim], and for shared negatives, float [n, k, dim]."""
    first, *rest = bottom
    blocks = model.continuous(batch.user, batch.movie, batch.fold, batch.history)
    names = [name for name in CONTINUOUS_BLOCKS if name in blocks]
    weights = dict(zip(names, first.weight.split([blocks[name].shape[1] for name in names], dim=1)))
    shared = batch.negatives()
    of_shared = model.continuous(torch.zeros_like(shared.movie), shared.movie, shared.fold, None)

    def inputs(values: dict[str, Tensor], about: list[str]) -> Tensor:
        return sum((values[name] @ weights[name].T for name in about), torch.zeros((), device=shared.movie.device))

    about_movies = [name for name in names if name.startswith("movie_")]
    user = inputs(blocks, [name for name in names if name not in about_movies]) + first.bias
    user = user.expand(len(batch), -1)  # a row of each, where nothing is known of any user
    hidden = nn.Sequential(*rest)
    own = hidden(user + inputs(blocks, about_movies))
    return own, hidden(user.unsqueeze(-2) + inputs(of_shared, about_movies))


class _Products:
    """The top MLP's first layer over [the continuous vector, the products of all pairs of sorted names]."""

    def __init__(self, of_user: list[str], first: nn.Linear):
        """
        Args:
            of_user: the names of the user's vectors, sorted.
        """
        pairs = list(combinations(sorted([*of_user, MOVIE_ID, CONTINUOUS]), 2))
        dim = first.in_features - len(pairs)
        place = {frozenset(pair): dim + i for i, pair in enumerate(pairs)}
        self.own = list(combinations(range(len(of_user)), 2))
        weight, self.bias = first.weight.T, first.bias
        self.of_continuous = weight[:dim]
        self.of_own = weight[[place[frozenset((of_user[one], of_user[other]))] for one, other in self.own]]
        self.of_movie, self.of_both = (
            weight[[place[frozenset((name, other))] for name in of_user]] for other in (MOVIE_ID, CONTINUOUS)
        )
        self.of_last = weight[place[frozenset((MOVIE_ID, CONTINUOUS))]]

    def __call__(self, users: Tensor, with_movie: Tensor, continuous: Tensor, movie: Tensor) -> Tensor:
        """
        Args:
            users: float [n, vectors, dim].
            with_movie: float [n, vectors] or [n, k, vectors], the products of the user's vectors with the movie's.
            continuous: float [n, dim] or [n, k, dim].
            movie: float [n, dim] or [k, dim].

        Returns:
            float [n, width] or [n, k, width].
        """
        of_user = self.bias.expand(len(users), -1)
        if self.own:
            one, other = zip(*self.own)
            of_user = torch.bmm(users, users.transpose(1, 2))[:, one, other] @ self.of_own + self.bias
        rows = continuous if continuous.dim() == 3 else continuous[:, None]
        # What is multiplied with the continuous vector, and with its products with the user's vectors, in one matrix.
        of_rows = self.of_continuous + users.transpose(1, 2) @ self.of_both
        hidden = torch.baddbmm(of_user[:, None].expand(-1, rows.shape[1], -1), rows, of_rows)
        last = (continuous * movie).sum(dim=-1, keepdim=True)
        others = torch.cat([with_movie, last], dim=-1) @ torch.cat([self.of_movie, self.of_last[None]])
        return hidden.view(others.shape) + others
