"""What gives someone unknown a user's row, from a few movies that they like.

A ridge regression from what a user's movies have in common (the mean of their learned embeddings) to the row that
training found for that user, fitted at export over known users and pieces of what each of them liked: the idea of
asymmetric SVD (Koren, "Factorization meets the neighborhood", 2008), learned after the fact. What the network knows of
a user's last movies enters the row as it does for known users.
"""

import numpy as np
import torch

from ensemble.triton_models.history import history_features
from models.baselines.biases import shrunk_mean
from models.cut import Cut, HistoryInputs
from models.data.features import Features
from models.data.history import WINDOWS
from models.data.interactions import Interactions, joined
from models.networks.base import Recommender
from workflows.features.statistics import PRIOR_RATINGS
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import LIKED_ABOVE

PEOPLE = 20_000
PIECES = 4  # of what each of them liked
HELD_OUT = 0.2  # of the people, to choose the penalty by
PENALTIES = (0.1, 1.0, 10.0, 100.0)


def fit_newcomers(
    cut: Cut, model: Recommender, features: Features, known: tuple[str, ...], seed: int
) -> dict[str, np.ndarray]:
    """What `ensemble.triton_models.history.newcomer_row` needs, by name.

    Args:
        cut: of `model`.
        known: the splits that the model was trained on.
    """
    rng = np.random.default_rng(seed)
    rows = joined([features.interactions(part) for part in known])
    liked = rows.stars.numpy() > LIKED_ABOVE
    arrays = {"vectors": cut.embeddings}
    target = cut.users
    if cut.history:
        arrays |= _history_arrays(cut.history, rows, liked, features.movies)
        target = target.copy()
        recent_means = model.now(torch.arange(len(target))).recent_means.numpy()
        target[:, cut.history.recent_columns] -= recent_means @ cut.history.recent_weights
    people = rng.permutation(np.arange(FIRST_INDEX, features.user_embeddings))[:PEOPLE]
    inputs, owner = _pieces(cut.embeddings, rows, liked & np.isin(rows.user.numpy(), people), rng)
    arrays["map"] = _ridge(inputs, target, owner, rng)
    return arrays


def _history_arrays(
    history: HistoryInputs, rows: Interactions, liked: np.ndarray, movies: int
) -> dict[str, np.ndarray]:
    """How a list of movies enters a row. Stars are not known of it: as many as others gave to what they liked."""
    movie, stars = rows.movie.numpy(), rows.stars.numpy()
    mean = stars.mean()
    above = stars - mean - shrunk_mean(movie, stars - mean, movies, PRIOR_RATINGS)[movie]
    return {
        "above": np.array(above[liked].mean() if liked.any() else 0, np.float32),
        "past": history.movies,
        "position": history.position,
        "history_columns": np.array([history.history_columns.start, history.history_columns.stop]),
        "recent_columns": np.array([history.recent_columns.start, history.recent_columns.stop]),
        "recent_weights": history.recent_weights,
        "windows": np.array(WINDOWS),
    }


def _pieces(
    embeddings: np.ndarray, rows: Interactions, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random pieces of what users liked, `PIECES` each: their features, float64 [pieces, n], and whose each is."""
    user, movie, later = (column.numpy()[chosen] for column in (rows.user, rows.movie, rows.later))
    order = np.lexsort((-later, user))
    users, starts, counts = np.unique(user[order], return_index=True, return_counts=True)
    movies = movie[order].astype(np.int64)
    inputs, owner = [], []
    for one, start, count in zip(users, starts, counts):
        lengths = np.exp(rng.uniform(0, np.log(count + 1), PIECES)).astype(int).clip(1, count)
        for first, length in zip(rng.integers(0, count - lengths + 1), lengths):
            inputs.append(history_features(embeddings, movies[start + first : start + first + length]))
            owner.append(one)
    width = 2 * embeddings.shape[1] + 2
    return np.array(inputs, np.float64).reshape(len(inputs), width), np.array(owner, np.int64)


def _ridge(inputs: np.ndarray, target: np.ndarray, owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [features, width], with the penalty that suits people who were left out of the fit best."""

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        x = inputs[rows]
        return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ target[owner[rows]])

    def error(penalty: float) -> float:
        """The mean squared error on those left out."""
        return float(((inputs[out] @ solve(~out, penalty) - target[owner[out]]) ** 2).mean())

    people = np.unique(owner)
    out = np.isin(owner, rng.permutation(people)[: max(1, round(HELD_OUT * len(people)))])
    best = PENALTIES[-1]
    if not out.all():
        best = min(PENALTIES, key=error)
    return solve(np.ones(len(owner), bool), best).astype(np.float32)
