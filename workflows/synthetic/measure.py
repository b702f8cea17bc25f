"""The best metrics that any model can reach on a synthetic release: those of the truth itself."""

import numpy as np
from sklearn.metrics import roc_auc_score

from core.constants import CANDIDATE_NEGATIVES, K
from workflows.negatives import NegativeSampler
from workflows.synthetic.truth import Truth, dots
from workflows.synthetic.write import Ratings

BEST_USERS, BEST_RATINGS = 20_000, 2_000_000  # how many the best reachable metrics are measured on


def measure(rng: np.random.Generator, truth: Truth, ratings: Ratings) -> tuple[dict, dict]:
    """The truth's metrics, which no model's can beat but by chance, and popularity's, on samples."""
    counts = np.bincount(ratings.movie, minlength=len(truth.movie_ids))
    rated = np.flatnonzero(counts)
    sizes = np.diff(ratings.starts)
    users = np.sort(rng.choice(len(sizes), min(BEST_USERS, len(sizes)), replace=False))
    is_sampled = np.zeros(len(sizes), bool)
    is_sampled[users] = True
    seen = np.searchsorted(rated, ratings.movie[np.repeat(is_sampled, sizes)])
    sampler = NegativeSampler(np.repeat(np.arange(len(users)), sizes[users]), seen, 0, len(rated))
    drawn = sampler.draw_distinct(np.arange(len(users)), CANDIDATE_NEGATIVES, rng)
    candidates = np.column_stack([ratings.last[users], np.where(drawn < 0, -1, rated[drawn])])
    truth_score = dots(truth.mixture, np.repeat(users, CANDIDATE_NEGATIVES + 1), truth.appeal, candidates.ravel())
    training = counts - np.bincount(ratings.last, minlength=len(counts))  # the last ones are what is to be found
    best = _ranking(truth_score.reshape(candidates.shape), candidates)
    popularity = _ranking(training[candidates], candidates)

    rows = rng.choice(len(ratings.movie), min(BEST_RATINGS, len(ratings.movie)), replace=False, shuffle=False)
    stars = truth.stars(ratings.user_of(rows), ratings.movie[rows])  # in the order of `like`
    best["auc"] = float(roc_auc_score(ratings.halves[rows] > 6, stars))
    return best, {"hr@10": popularity["hr@10"]}


def _ranking(scores: np.ndarray, candidates: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of the first column's movies; where there are too few others, -1 stands in their place.

    As in `models.evaluation.metrics`, which the workflow may not import: ties count against the held-out movie.
    """
    rank = ((scores[:, 1:] >= scores[:, :1]) & (candidates[:, 1:] >= 0)).sum(axis=1)
    hit = rank < K
    return {"hr@10": float(hit.mean()), "ndcg@10": float((hit / np.log2(rank + 2.0)).mean())}
