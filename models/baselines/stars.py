"""What baselines that predict stars share: clipping to the range of the training stars.

The label of their training rows is the stars; a pair comes once. Every prediction is the same, bit for bit, in any
batch. scikit-surprise has such models too, but its wheel needs numpy >= 1.24, which the Merlin stack's numpy 1.23.5
excludes.
"""

from abc import ABC, abstractmethod

import numpy as np

from models.baselines.base import TrainingData


class StarScorer(ABC):
    """A prediction within the range of the training stars.

    Attributes:
        low, high: the fewest and the most stars of a training rating.
    """

    is_probability = False

    def __init__(self, data: TrainingData):
        self.low, self.high = float(data.rows.label.min()), float(data.rows.label.max())

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n], stars, of int64 [n] indices."""
        return np.clip(self.predict(user, movie), self.low, self.high).astype(np.float32)

    @abstractmethod
    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float [n], stars, not clipped yet."""


def rating_columns(data: TrainingData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User and movie indices, int32 [n], and stars, float64 [n]."""
    rows = data.rows
    return rows.user.numpy(), rows.movie.numpy(), rows.label.numpy().astype(np.float64)
