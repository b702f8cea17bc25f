"""Users as the bootstrap draws them."""

import numpy as np

MOST_GROUPS = 4_000


def dense(owner: np.ndarray) -> np.ndarray:
    """The same owners, numbered from 0 to one less than there are: int64 [n].

    >>> dense(np.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    return np.unique(owner, return_inverse=True)[1]


def grouped(owner: np.ndarray, most: int = MOST_GROUPS) -> np.ndarray:
    """Owners in at most `most` random groups, to be resampled whole: int64 [n], from 0 to one less than there are.

    Metrics are made of sums over users. The sums of random groups of g users vary by g times what the users' own do, so
    that resampling groups instead of users gives the same intervals, for a fraction of the work. Where there are no
    more users than `most`, each is a group.

    Args:
        owner: int64 [n], from 0 to one less than there are.
    """
    users = int(owner.max()) + 1 if len(owner) else 0
    if users <= most:
        return owner
    return (np.random.default_rng(0).permutation(users) % most)[owner]
