"""The best of many movies."""

import numpy as np


def top_k(ids: np.ndarray, scores: np.ndarray, excluded: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best ids and their scores, equal scores in the order of the ids.

    Args:
        ids, scores: [n] each; `scores` is changed.
        excluded: int [m], places in `ids` to leave out.

    Returns:
        At most `k` ids and scores, best first.
    """
    scores[excluded] = -np.inf
    k = min(k, int(np.isfinite(scores).sum()))
    if not k:
        return ids[:0], scores[:0]
    least = np.partition(scores, -k)[-k]
    top = np.flatnonzero(scores >= least)
    top = top[np.argsort(-scores[top], kind="stable")[:k]]
    return ids[top], scores[top]
