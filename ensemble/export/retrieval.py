"""The first of two stages: a network that finds, by one product per movie, the movies that the ranking network wants.

Two towers, one over a user's row and one over a movie's, whose outputs' dot product learns to order movies as the
ranking network does (distillation; two towers as in Yi et al., "Sampling-bias-corrected neural modeling for large
corpus item recommendations", 2019, with the ranking network in the place of clicks). The loss is the cross-entropy
between the two softmaxes over many movies, half of them those that the towers themselves put first for these users.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.constants import K
from models.cut import Cut
from workflows.features.vocabulary import FIRST_INDEX

DIM = 32
HIDDEN = 128
STEPS = 120
PEOPLE = 32  # of one step
MOVIES = 2_048  # of one step
NEAREST = 64  # that the towers put first, of each of these people
REFRESH = 20  # steps between two looks at where the whole catalogue stands
LEARNING_RATE = 3e-3
CANDIDATES = 500
JUDGED = 200  # people whose exact top ten is held against the candidates; none of them was trained on
LEAST_RECALL = 0.95  # from where on two stages are the default
LEAST_MOVIES = 10_000  # fewer are scored at once in no more time
CLIP = 1e-7

Teacher = Callable[[Tensor, Tensor], Tensor]
Asked = tuple[np.ndarray, np.ndarray]  # a user's row, float32 [1, width], and the places that are excluded for them


def nothing_rated(user: int) -> np.ndarray:
    """No places in the catalogue."""
    return np.empty(0, np.int64)


class Tower(nn.Module):
    """Rows of one side to vectors whose dot products order movies: a linear map beside an MLP."""

    def __init__(self, rows: Tensor):
        """
        Args:
            rows: float32 [n, width], whose mean and spread are taken out.
        """
        super().__init__()
        self.register_buffer("mean", rows.mean(dim=0))
        self.register_buffer("spread", rows.std(dim=0, unbiased=False) + 1e-3)
        self.linear = nn.Linear(rows.shape[1], DIM)
        self.mlp = nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
        for layer in (self.linear, self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.05)

    def forward(self, rows: Tensor) -> Tensor:
        rows = (rows - self.mean) / self.spread
        return self.linear(rows) + self.mlp(rows)


class Query(nn.Module):
    """What is asked of the catalogue: a user's row, [1, width], and the movies' vectors, [n, DIM], to float32 [n]."""

    def __init__(self, tower: Tower):
        super().__init__()
        self.tower = tower

    def forward(self, user: Tensor, movie: Tensor) -> Tensor:
        return (movie @ self.tower(user).T).squeeze(1)


@dataclass(frozen=True)
class Retrieval:
    """A trained first stage.

    Attributes:
        query: a user's row and `vectors` to how near each movie is.
        vectors: float32 [movies of the catalogue, DIM].
        recall: share of the exact top ten of `JUDGED` people that is among `CANDIDATES` movies, what they have rated
            left out of both.
    """

    query: Query
    vectors: np.ndarray
    recall: float


def fit_retrieval(
    cut: Cut,
    users: range,
    seed: int,
    *,
    rated: Callable[[int], np.ndarray] = nothing_rated,
    strangers: Sequence[Asked] = (),
) -> Retrieval:
    """Trains the towers on random users and judges them by others.

    Where all movies are candidates the towers stay untrained.

    Args:
        users: whose rows are those of trained users.
        rated: what a user is not to be recommended, as places in the catalogue.
        strangers: rows of people that are in no table, to judge by, too; the lower recall of the two counts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        people = torch.randperm(len(users)) + users.start
        judged = people[: min(JUDGED, max(1, len(people) // 5))]
        trained = people[len(judged) :] if len(people) > len(judged) else people
        user_rows = torch.from_numpy(cut.users)
        movie_rows = torch.from_numpy(np.concatenate([cut.vectors, cut.hidden], axis=1)[FIRST_INDEX:])
        split = [cut.vectors.shape[1], cut.hidden.shape[1]]

        head = cut.head.for_one_user()  # matrix products, where the head for pairs multiplies and sums

        def teacher(user: Tensor, movies: Tensor) -> Tensor:
            return head(user, *movies.split(split, dim=1))

        of_user, of_movie = Tower(user_rows[people]), Tower(movie_rows)
        if len(movie_rows) > CANDIDATES:  # else each movie is a candidate, and there is nothing to learn
            _train(teacher, of_user, of_movie, user_rows, movie_rows, trained)
        query = Query(of_user).eval()
        with torch.no_grad():
            vectors = of_movie(movie_rows)
            known = [(cut.users[user : user + 1], rated(user)) for user in judged.tolist()]
            recall = min(
                _recall(teacher, query, vectors, movie_rows, asked) for asked in (known, strangers) if len(asked)
            )
    return Retrieval(query, vectors.numpy(), recall)


def _train(
    teacher: Teacher, of_user: Tower, of_movie: Tower, user_rows: Tensor, movie_rows: Tensor, people: Tensor
) -> None:
    optimizer = torch.optim.Adam([*of_user.parameters(), *of_movie.parameters()], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    everywhere = torch.empty(0)
    count = min(MOVIES, len(movie_rows))
    for step in range(STEPS):
        users = user_rows[people[torch.randint(len(people), (PEOPLE,))]]
        with torch.no_grad():
            if step % REFRESH == 0:
                everywhere = of_movie(movie_rows)
            near = (of_user(users) @ everywhere.T).topk(min(NEAREST, len(movie_rows)), dim=1).indices.unique()
            near = near[torch.randperm(len(near))[: count // 2]]
            movies = movie_rows[torch.cat([near, torch.randint(len(movie_rows), (count - len(near),))])]
            wanted = torch.stack([teacher(user, movies) for user in users.split(1)])
            wanted = torch.softmax(torch.logit(wanted, CLIP), dim=1)
        found = torch.log_softmax(of_user(users) @ of_movie(movies).T, dim=1)
        loss = -(wanted * found).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _recall(teacher: Teacher, query: Query, vectors: Tensor, movie_rows: Tensor, asked: Sequence[Asked]) -> float:
    shares = []
    for row, excluded in asked:
        user = torch.from_numpy(row)
        exact = torch.cat([teacher(user, part) for part in movie_rows.split(MOVIES)])
        near = query(user, vectors)
        for scores in (exact, near):
            scores[torch.from_numpy(excluded.astype(np.int64))] = -torch.inf
        left = int(torch.isfinite(exact).sum())
        if left:
            best = exact.topk(min(K, left)).indices
            found = near.topk(min(CANDIDATES, left)).indices
            shares.append(float(torch.isin(best, found).float().mean()))
    return float(np.mean(shares)) if shares else 1.0
