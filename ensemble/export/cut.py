"""A trained network cut in three, for serving: what depends on the user alone, on the movie alone, and the rest.

A first layer over [user's inputs, movie's inputs] is the sum of a product of each, so both can be worked out before
anyone asks. What is left, the head, sees rows of numbers: every user's and every movie's are kept in tables, and a
request looks up rows and runs the head. `recommend` needs one row of a user for the whole catalogue.
"""

from copy import copy
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from torch import Tensor, nn

from core.columns import CONTINUOUS, HISTORY, HISTORY_STARS, MOVIE_ID, USER_ID
from models.data.history import NOTHING
from models.networks.base import Recommender, in_vocabulary
from workflows.features.vocabulary import FOLDS


@dataclass(frozen=True)
class Past:
    """How a list of movies enters a user's row, where the network knows of moments.

    Attributes:
        movies: float32 [movies, dim], the embeddings of movies that were watched before.
        position: float32 [2, history], weights by how long ago: for the movies, and for their stars; the latest first.
        columns: where the two pooled vectors stand in the row.
        mood: float32 [windows, width], what the mean stars of the last ratings add to the last columns of the row.
    """

    movies: np.ndarray
    position: np.ndarray
    columns: slice
    mood: np.ndarray


@dataclass(frozen=True)
class Sides:
    """A network for serving.

    Attributes:
        users: float32 [users, user width], a row per user index.
        vectors: float32 [movies, dim], the movies' embeddings, a row per movie index.
        hidden: float32 [movies, width], what the movies bring to the first layer of the MLP that has inputs of both.
        head: (rows of `users`, of `vectors`, of `hidden`) to float32 [n] probabilities.
        embeddings: float32 [movies, dims], all that was learned of each movie alone.
        past: None where the network knows of no moments.
    """

    users: np.ndarray
    vectors: np.ndarray
    hidden: np.ndarray
    head: "DLRMHead | NCFHead"
    embeddings: np.ndarray
    past: Past | None


@torch.no_grad()
def cut(model: Recommender, users: int, movies: int) -> Sides:
    """The sides of a trained DLRM or NCF on the CPU, as of now: after all that the users rated.

    Args:
        users, movies: rows of the side tables.
    """
    cut_it = _cut_dlrm if model.uses_features else _cut_ncf
    return cut_it(model, torch.arange(users), torch.arange(movies))


class DLRMHead(nn.Module):
    """DLRM after its lookups: the rest of the bottom MLP, the products of all pairs, the top MLP.

    The products of two of the user's own vectors are worked out once for a row of users, not for each movie.
    """

    def __init__(self, of_user: list[str], dim: int, bottom: nn.Sequential, top: nn.Sequential, offset: Tensor):
        """
        Args:
            of_user: the vectors in the user's row, in its order.
            bottom: the bottom MLP without its first layer.
            top: the top MLP and the output, from [bottom's output, products of the pairs of sorted names] on.
        """
        super().__init__()
        self.of_user, self.dim, self.bottom, self.rest = of_user, dim, bottom, top[1:]
        self.one_user = False
        self.register_buffer("offset", offset)
        pairs = list(combinations(sorted([*of_user, MOVIE_ID, CONTINUOUS]), 2))
        place = {frozenset(pair): dim + i for i, pair in enumerate(pairs)}
        self.own = list(combinations(range(len(of_user)), 2))
        own = [place[frozenset((of_user[one], of_user[other]))] for one, other in self.own]
        others = [*product((MOVIE_ID, CONTINUOUS), of_user), (MOVIE_ID, CONTINUOUS)]
        weight = top[0].weight.T
        self.first_bias = nn.Parameter(top[0].bias)
        self.first_own = nn.Parameter(weight[own].contiguous())
        self.first = nn.Parameter(weight[[*range(dim), *(place[frozenset(pair)] for pair in others)]].contiguous())

    def for_one_user(self) -> "DLRMHead":
        """The same head for a single row of users, in matrix products where pairs need sums of products."""
        head = copy(self)
        head.one_user = True
        return head

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        width = self.dim * len(self.of_user)
        users = user[:, :width].split(self.dim, dim=1)
        continuous = self.bottom(user[:, width:] + hidden)
        inputs = [continuous]
        for movie in (vector, continuous):
            if self.one_user:
                inputs.append(movie @ user[:, :width].reshape(-1, self.dim).T)
            else:
                inputs += [_dot(movie, one) for one in users]
        inputs.append(_dot(vector, continuous))
        of_user = self.first_bias[None]
        if self.own:
            products = torch.cat([_dot(users[one], users[other]) for one, other in self.own], dim=1)
            of_user = torch.addmm(of_user, products, self.first_own)
        first = torch.addmm(of_user, torch.cat(inputs, dim=1), self.first)
        return torch.sigmoid(self.rest(first).squeeze(1) + self.offset)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1, keepdim=True)


class NCFHead(nn.Module):
    """NeuMF after its lookups: GMF's product beside the MLP without its first layer."""

    def __init__(self, dim: int, mlp: nn.Sequential, last: nn.Module, offset: Tensor):
        super().__init__()
        self.dim, self.mlp, self.last = dim, mlp, last
        self.register_buffer("offset", offset)

    def for_one_user(self) -> "NCFHead":
        """The same head: a single row of users goes with all movies as it is."""
        return self

    def forward(self, user: Tensor, vector: Tensor, hidden: Tensor) -> Tensor:
        gmf = user[:, : self.dim] * vector
        mlp = self.mlp(user[:, self.dim :] + hidden)
        return torch.sigmoid(self.last(torch.cat([gmf, mlp], dim=1)).squeeze(1) + self.offset)


def _cut_dlrm(model: Recommender, users: Tensor, movies: Tensor) -> Sides:
    body, output = model.network.values
    inputs, _, top = body.values
    tables = {name: table.weight for name, table in model.embedding_tables()}
    codes = model.codes(users, torch.zeros_like(users))
    of_user = {name: tables[name][rows] for name, rows in codes.items() if name != MOVIE_ID}
    movie_codes = model.codes(torch.zeros_like(movies), movies)[MOVIE_ID]
    first, *bottom = _layers((inputs.inputs if model.uses_moments else inputs).branches[CONTINUOUS])
    about_movies = torch.cat([model.movie_features, model.movie_statistics[FOLDS]], dim=1)
    about_users = torch.zeros(len(users), 0) if model.user_statistics is None else model.user_statistics[FOLDS]
    past = None
    if model.uses_moments:
        now = model.now(users)
        seen = in_vocabulary(now.movies, model.movie_embeddings)
        weights = torch.stack([inputs.position[0] * (seen != NOTHING), inputs.position[1] * now.stars], dim=1)
        pooled = torch.bmm(weights, tables[HISTORY][seen])
        start = sum(table.shape[1] for table in of_user.values())
        of_user |= {HISTORY: pooled[:, 0], HISTORY_STARS: pooled[:, 1]}
        about_users = torch.cat([about_users, now.mood], dim=1)
        columns = slice(start, start + 2 * pooled.shape[2])
        mood = first.weight[:, -now.mood.shape[1] :].T
        past = Past(tables[HISTORY][movie_codes].numpy(), inputs.position.numpy(), columns, mood.numpy())
    on_movies, on_users = first.weight.split([about_movies.shape[1], about_users.shape[1]], dim=1)
    user_rows = torch.cat([*of_user.values(), about_users @ on_users.T], dim=1)
    vectors = tables[MOVIE_ID][movie_codes]
    hidden = about_movies @ on_movies.T + first.bias
    top = nn.Sequential(*_layers(top), *_layers(output))
    head = DLRMHead(list(of_user), vectors.shape[1], nn.Sequential(*bottom), top, model.offset)
    return Sides(user_rows.numpy(), vectors.numpy(), hidden.numpy(), head.eval(), vectors.numpy(), past)


def _cut_ncf(model: Recommender, users: Tensor, movies: Tensor) -> Sides:
    blocks, _, output = model.network.values
    (_, gmf), (_, mlp) = ((name, blocks.branches[name]) for name in ("gmf", "mlp"))
    of_user, of_movie = (
        [next(t.table.weight[codes[name]] for t in branch.modules() if _is_table_of(t, name)) for branch in (gmf, mlp)]
        for name, codes in (
            (USER_ID, model.codes(users, torch.zeros_like(users))),
            (MOVIE_ID, model.codes(torch.zeros_like(movies), movies)),
        )
    )
    first, *rest = _layers(mlp)
    on_movies, on_users = first.weight.chunk(2, dim=1)  # Merlin's Concat sorts by name: movie_id, user_id
    user_rows = torch.cat([of_user[0], of_user[1] @ on_users.T], dim=1)
    hidden = of_movie[1] @ on_movies.T + first.bias
    (last,) = _layers(output)
    head = NCFHead(of_user[0].shape[1], nn.Sequential(*rest), last, model.offset)
    embeddings = torch.cat(of_movie, dim=1).numpy()
    return Sides(user_rows.numpy(), of_movie[0].numpy(), hidden.numpy(), head.eval(), embeddings, None)


def _is_table_of(module: nn.Module, name: str) -> bool:
    return isinstance(module, EmbeddingTable) and name in module.feature_to_domain


def _layers(block: nn.Module) -> list[nn.Module]:
    """The layers of a Merlin block that do anything in evaluation."""
    return [module for module in block.modules() if isinstance(module, (nn.Linear, nn.ReLU))]
