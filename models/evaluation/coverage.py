"""How much of the catalogue models' lists cover."""

import numpy as np

EMPTY = -1  # fills the places of a list that is too short
Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def coverage(movie: np.ndarray, catalogue: int) -> tuple[float, tuple[float, float] | None]:
    """The share of the catalogue that is in anyone's list, and its 95 % interval; None with fewer than two users.

    (Ge, Delgado-Battenfeld and Jannach, "Beyond Accuracy: Evaluating Recommender Systems by Coverage and Serendipity",
    2010.) A resample of users repeats some and so covers less, whatever the model: the bootstrap does not fit here. The
    interval is the jackknife's, +-1.96 standard errors (Efron and Stein, "The Jackknife Estimate of Variance", 1981;
    Heltshe and Forrester, 1983, for the number of species in samples, which this is). Without user i, u_i movies fewer
    are covered, those that only i's list holds:

        variance = (n - 1) / n x sum over users of (u_i - mean u)^2

    Args:
        movie: int64 [users, places], the best first; `EMPTY` after a list's end.
        catalogue: how many movies could be listed.

    >>> coverage(np.array([[1, 2], [1, 3], [1, 2]]), catalogue=6)[0]
    0.5
    """
    users = len(movie)
    owner = np.repeat(np.arange(users), movie.shape[1])[movie.ravel() != EMPTY]
    pairs = np.unique(np.stack([movie[movie != EMPTY], owner]), axis=1)
    found, first, count = np.unique(pairs[0], return_index=True, return_counts=True)
    share = len(found) / catalogue
    if users < 2:
        return share, None
    alone = np.bincount(pairs[1, first[count == 1]], minlength=users)
    error = np.sqrt((users - 1) / users * np.sum((alone - alone.mean()) ** 2)) / catalogue
    return share, (max(0.0, share - Z95 * float(error)), min(1.0, share + Z95 * float(error)))
