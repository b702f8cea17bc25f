"""How far apart scores may be that should be equal: a served model's and the trained network's."""

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-5


def largest_difference(found: ArrayLike, expected: ArrayLike) -> float:
    """The largest absolute difference of two arrays of one shape; 0 where they are empty, NaN where one has a NaN."""
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max(initial=0.0))


def is_equal(difference: float) -> bool:
    """Whether a difference is within the tolerance; NaN is not."""
    return difference <= TOLERANCE
