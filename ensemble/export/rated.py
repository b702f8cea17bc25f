"""What each user has rated: what is never recommended to them."""

from dataclasses import dataclass

import numpy as np

from models.data.features import Features
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import PARTS


@dataclass(frozen=True)
class Rated:
    """Every pair that anyone has rated, in any split.

    Attributes:
        places: int32 [ratings], places in the catalogue, user by user.
        starts: int64 [users + 1], where each user's start.
    """

    places: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, features: Features) -> "Rated":
        """Of the features of a protocol."""
        user, movie = features.seen(*PARTS)
        starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=features.users))])
        return cls((movie - FIRST_INDEX)[np.argsort(user, kind="stable")], starts)

    def by(self, user: int) -> np.ndarray:
        """int32 [m], the train, valid and test rows of a user one after the other."""
        return self.places[self.starts[user] : self.starts[user + 1]]
