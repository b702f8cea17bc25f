"""Metrics of the ranks that `evaluate` has kept: at every cut-off k, and any registered one for each user."""

from dataclasses import dataclass

import numpy as np

from models.evaluation.judgement import BOOTSTRAP_ROUNDS
from models.evaluation.metrics.base import Metric, Ranking

CELLS_AT_ONCE = 1 << 24  # of users and others: 16 MB of int8


@dataclass(frozen=True)
class Curve:
    """A metric at k = 1, 2, ...

    Attributes:
        value: float64 [k].
        low, high: its 95 % interval, float64 [k] each.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def at_each_k(rank: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """HR@k and NDCG@k for k from 1 to `most`: means over users, float64 [most] each.

    With one relevant movie per user, of rank r from 0:

        HR@k = share of users with r < k        NDCG@k = mean over users of (1 / log2(r + 2) if r < k, else 0)

    (He et al., "Neural Collaborative Filtering", 2017; Jarvelin and Kekalainen, 2002.)

    Args:
        rank: int [users], at least one.

    >>> hits, gains = at_each_k(np.array([0, 2, 9]), most=3)
    >>> hits.round(4).tolist(), gains.round(4).tolist()
    ([0.3333, 0.3333, 0.6667], [0.3333, 0.3333, 0.5])
    """
    return _curves(_users_of_each_rank(rank, most)[:most] / len(rank))


def curves_of(rank: np.ndarray, most: int, seed: int, rounds: int = BOOTSTRAP_ROUNDS) -> tuple[Curve, Curve]:
    """`at_each_k` with 95 % intervals by the percentile bootstrap over users (Efron, 1979).

    Both metrics depend on nothing but how many users have each rank, so a resample of the users is a draw of these
    counts from a multinomial distribution: as fast for 162,000 users as for ten.
    """
    counts = _users_of_each_rank(rank, most)
    drawn = np.random.default_rng(seed).multinomial(len(rank), counts / len(rank), size=rounds)
    values = at_each_k(rank, most)
    intervals = [np.percentile(one, [2.5, 97.5], axis=0) for one in _curves(drawn[:, :most] / len(rank))]
    hits, gains = (Curve(value, *interval) for value, interval in zip(values, intervals))
    return hits, gains


def _users_of_each_rank(rank: np.ndarray, most: int) -> np.ndarray:
    """How many users have the rank 0, 1, ..., `most` - 1, or a worse one: int64 [most + 1]."""
    return np.bincount(np.minimum(rank, most), minlength=most + 1)


def _curves(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HR and NDCG at each k from the share of users that have each rank: float64 [..., most]."""
    gain = 1 / np.log2(np.arange(share.shape[-1]) + 2.0)
    return np.cumsum(share, axis=-1), np.cumsum(share * gain, axis=-1)


def per_user(metric: Metric, rank: np.ndarray, ties: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A ranking metric of each user from where the held-out movie stood: float64 [users].

    The metric is asked about scores in the order that was kept: 1 for each other movie above the held-out one, 0 for
    each tie and for the held-out movie, -1 for the rest. Every metric that looks at nothing but the order of the scores
    has the value that it had for the scores themselves.

    Args:
        rank: int [users], how many others score at least as high.
        ties: int [users], how many of those score the same.
        others: int [users], how many others there are.

    >>> from models.evaluation.metrics.base import METRICS
    >>> per_user(METRICS["ranking/auc"], np.array([2]), np.array([1]), np.array([4])).tolist()
    [0.625]
    """
    assert metric.per_user is not None
    width = int(others.max()) if len(others) else 0
    blocks = np.array_split(np.arange(len(rank)), max(1, -(-len(rank) * width // CELLS_AT_ONCE)))
    parts = [metric.per_user(_ranking(rank[block], ties[block], others[block], width)) for block in blocks]
    return np.concatenate(parts)


def _ranking(rank: np.ndarray, ties: np.ndarray, others: np.ndarray, width: int) -> Ranking:
    place = np.arange(width)
    above, level, there = ((limit[:, None] > place) for limit in (rank - ties, rank, others))
    scores = above.astype(np.int8) + level.astype(np.int8) - 1
    return Ranking(rank.astype(np.int64), np.zeros(len(rank), np.int8), scores, there)
