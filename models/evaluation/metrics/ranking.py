"""Metrics of where a held-out movie stands.

One held-out movie stands against others. Its rank (from 0) is the number of others that score at
least as high: ties count against the model. With one relevant movie per user and a cut-off k, where rank < k (else 0):

    HR@k = 1        NDCG@k = 1 / log2(rank + 2)        MRR@k = 1 / (rank + 1)

(He et al., 2017; Jarvelin and Kekalainen, 2002.) The mean over users is the metric.
"""

import numpy as np

from core.constants import K
from models.evaluation.metrics.base import Metric, Ranking, add


def rank_of_positive(positive: np.ndarray, others: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """How many others score at least as high as the held-out movie.

    Args:
        positive: float [users], the held-out movie's score.
        others: float [users, n], the others' scores.
        valid: bool [users, n], which of the others count; None for all.

    Returns:
        int64 [users].

    Raises:
        ValueError: a score that counts is not a number, which compares with nothing.

    >>> rank_of_positive(np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.5, 0.1]])).tolist()
    [1, 1]
    """
    others = others if valid is None else np.where(valid, others, -np.inf)
    if np.isnan(positive).any() or np.isnan(others).any():
        raise ValueError("a score is not a number")
    at_least = others >= positive[:, None]
    return (at_least if valid is None else at_least & valid).sum(axis=1)


def hit_rate(rank: np.ndarray, k: int = K) -> np.ndarray:
    """HR@k per user, float64.

    >>> hit_rate(np.array([0, 9, 10])).tolist()
    [1.0, 1.0, 0.0]
    """
    return (rank < k).astype(np.float64)


def ndcg(rank: np.ndarray, k: int = K) -> np.ndarray:
    """NDCG@k per user, float64.

    >>> ndcg(np.array([0, 2, 10])).tolist()
    [1.0, 0.5, 0.0]
    """
    return np.where(rank < k, 1 / np.log2(rank + 2.0), 0.0)


def mrr(rank: np.ndarray, k: int = K) -> np.ndarray:
    """MRR@k per user, float64.

    >>> mrr(np.array([0, 3, 10])).tolist()
    [1.0, 0.25, 0.0]
    """
    return np.where(rank < k, 1 / (rank + 1.0), 0.0)


def user_auc(positive: np.ndarray, others: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """The share of the others that score below the held-out movie, a tie counting half: float64 [users].

    A user without others gets 0.5. Arguments as in `rank_of_positive`.

    >>> user_auc(np.array([0.5]), np.array([[0.9, 0.5, 0.1, 0.2]])).tolist()
    [0.625]
    """
    valid = np.ones(others.shape, bool) if valid is None else valid
    below = ((others < positive[:, None]) & valid).sum(axis=1)
    ties = ((others == positive[:, None]) & valid).sum(axis=1)
    count = valid.sum(axis=1)
    return np.where(count > 0, (below + ties / 2) / np.maximum(count, 1), 0.5)


def ranking(positive: np.ndarray, others: np.ndarray, valid: np.ndarray) -> Ranking:
    """The ranking that scores make; arguments and errors as in `rank_of_positive`."""
    return Ranking(rank_of_positive(positive, others, valid), positive, others, valid)


def how_many(others: tuple[int, int]) -> str:
    """The fewest and the most movies that held-out movies are ranked among, for a heading.

    >>> how_many((99, 99)), how_many((12, 99))
    ('99', '12 to 99')
    """
    fewest, most = others
    return str(most) if fewest == most else f"{fewest} to {most}"


add(
    "hr@10",
    Metric(task="ranking", title="HR@10", per_user=lambda found: hit_rate(found.rank), full_catalogue=True),
    position=10,
)
add(
    "ndcg@10",
    Metric(task="ranking", title="NDCG@10", per_user=lambda found: ndcg(found.rank), full_catalogue=True),
    position=20,
)
add(
    "mrr@10",
    Metric(
        task="ranking",
        title="MRR@10",
        per_user=lambda found: mrr(found.rank),
        in_tables=False,
        full_catalogue=True,
    ),
    position=30,
)
add(
    "auc",
    Metric(task="ranking", title="AUC", per_user=lambda found: user_auc(found.positive, found.others, found.valid)),
    position=40,
)
