"""What gives someone unknown a user's row, from a few movies that they like.

A ridge regression from what a user's movies have in common (the mean of their learned embeddings) to the row that
training found for that user, fitted at export over known users and pieces of what each of them liked: the idea of
asymmetric SVD (Koren, "Factorization meets the neighborhood", 2008), learned after the fact. What the network knows of
a user's last movies enters the row as it does for known users.
"""

import numpy as np
import torch

from ensemble.export.cut import Sides
from ensemble.triton_models.history import history_features
from models.baselines.biases import shrunk_mean
from models.data.features import Features
from models.data.history import PRIOR_RATINGS, WINDOWS, joined
from models.networks.base import Recommender
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import LIKED_ABOVE

PEOPLE = 20_000
PIECES = 4  # of what each of them liked
HELD_OUT = 0.2  # of the people, to choose the penalty by
PENALTIES = (0.1, 1.0, 10.0, 100.0)


def fit_newcomers(
    sides: Sides, model: Recommender, features: Features, known: tuple[str, ...], seed: int
) -> dict[str, np.ndarray]:
    """What `ensemble.triton_models.history.newcomer_row` needs, by name.

    Args:
        sides: of `model`.
        known: the splits that the model was trained on.
    """
    rng = np.random.default_rng(seed)
    rows = joined([features.interactions(part) for part in known])
    user, movie, stars, later = (getattr(rows, name).numpy() for name in ("user", "movie", "stars", "later"))
    liked = stars > LIKED_ABOVE
    arrays = {"vectors": sides.embeddings}
    target = sides.users
    if sides.past:
        # Of whoever lists a movie it is known that they like it, not how much: as much as others who did.
        mean = stars.mean()
        above = stars - mean - shrunk_mean(movie, stars - mean, features.movies, PRIOR_RATINGS)[movie]
        mood = sides.past.mood
        arrays |= {
            "above": np.array(above[liked].mean() if liked.any() else 0, np.float32),
            "past": sides.past.movies,
            "position": sides.past.position,
            "history_columns": np.array([sides.past.columns.start, sides.past.columns.stop]),
            "recent_columns": np.array([target.shape[1] - mood.shape[1], target.shape[1]]),
            "recent_weights": mood,
            "windows": np.array(WINDOWS),
        }
        target = target.copy()
        target[:, -mood.shape[1] :] -= model.now(torch.arange(len(target))).mood.numpy() @ mood
    people = rng.permutation(np.arange(FIRST_INDEX, features.user_embeddings))[:PEOPLE]
    chosen = liked & np.isin(user, people)
    order = np.lexsort((-later[chosen], user[chosen]))
    owners, starts, counts = np.unique(user[chosen][order], return_index=True, return_counts=True)
    movies = movie[chosen][order].astype(np.int64)
    said, whose = [], []
    for owner, start, count in zip(owners, starts, counts):
        lengths = np.exp(rng.uniform(0, np.log(count + 1), PIECES)).astype(int).clip(1, count)
        for first, length in zip(rng.integers(0, count - lengths + 1), lengths):
            said.append(history_features(sides.embeddings, movies[start + first : start + first + length]))
            whose.append(owner)
    features_said = np.array(said, np.float64).reshape(len(said), 2 * sides.embeddings.shape[1] + 2)
    arrays["map"] = _ridge(features_said, target, np.array(whose, np.int64), rng)
    return arrays


def _ridge(said: np.ndarray, target: np.ndarray, whose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [features, width], with the penalty that suits people who were left out of the fit best."""

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        x = said[rows]
        return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ target[whose[rows]])

    people = np.unique(whose)
    out = np.isin(whose, rng.permutation(people)[: max(1, round(HELD_OUT * len(people)))])
    best = PENALTIES[-1]
    if not out.all():
        best = min(PENALTIES, key=lambda p: float(((said[out] @ solve(~out, p) - target[whose[out]]) ** 2).mean()))
    return solve(np.ones(len(whose), bool), best).astype(np.float32)
