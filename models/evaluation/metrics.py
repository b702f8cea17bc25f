"""Ranking and classification metrics, and their confidence intervals.

In leave-one-out, one held-out movie stands against others. Its rank (from 0) is the number of others that score at
least as high: ties count against the model. With one relevant movie per user and a cut-off k, where rank < k (else 0):

    HR@k = 1        NDCG@k = 1 / log2(rank + 2)        MRR@k = 1 / (rank + 1)

(He et al., 2017; Jarvelin and Kekalainen, 2002.) The mean over users is the metric.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

K = 10


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


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    Args:
        label: [n], 0 or 1.
        score: float [n].

    Returns:
        NaN where there are only positives or only negatives.

    Raises:
        ValueError: a score is not a number.

    >>> auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    0.875
    """
    positive = label > 0
    return float(placements(label, score)[positive].mean()) if positive.any() and not positive.all() else float("nan")


def placements(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The share of the rows of the other label that a row is on the right side of, a tie counting half: float64 [n].

    For a positive the negatives that score below it, for a negative the positives that score above it. Their mean over
    either label is the AUC (DeLong et al., "Comparing the Areas under Two or More Correlated ROC Curves", 1988).
    Arguments and errors as in `auc`; 0 where there are no rows of the other label.

    >>> placements(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])).tolist()
    [1.0, 0.75, 0.75, 1.0]
    """
    if np.isnan(score).any():
        raise ValueError("a score is not a number")
    order = np.argsort(score, kind="stable")
    ordered, positive = score[order], label[order] > 0
    group = np.cumsum(np.append(False, ordered[1:] != ordered[:-1])) if len(score) else np.empty(0, int)
    positives, negatives = np.bincount(group, positive), np.bincount(group, ~positive)
    below = (np.cumsum(negatives) - negatives / 2) / max(negatives.sum(), 1)
    above = (positives.sum() - np.cumsum(positives) + positives / 2) / max(positives.sum(), 1)
    share = np.empty(len(score))
    share[order] = np.where(positive, below[group], above[group])
    return share


def log_losses(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability given to what happened: float64 [n]; probabilities clipped at 1e-7."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.where(label > 0, np.log(p), np.log1p(-p))


def bootstrap(statistic: Callable[[np.ndarray], Any], users: int, seed: int, rounds: int) -> np.ndarray:
    """95 % intervals by the percentile bootstrap over users (Efron, 1979).

    Args:
        statistic: of float64 [users], how often each user was drawn, to a number or to float [k].
        users: how many there are.
        rounds: how many resamples.

    Returns:
        float64 [2] or [2, k]: low, high.
    """
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(rounds))
    values = [statistic(draw.astype(float)) for draw in draws]
    return np.nanpercentile(values, [2.5, 97.5], axis=0)
