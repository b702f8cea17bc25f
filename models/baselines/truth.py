"""The truth: on synthetic data the model that the ratings were drawn from, the best that any model can reach."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from core.columns import MOVIE_ID, USER_ID
from models.baselines.base import Baseline, NoSettings, TrainingData, add
from workflows.features.vocabulary import FIRST_INDEX
from workflows.synthetic.files import SUMMARY

if TYPE_CHECKING:
    from workflows.synthetic.truth import Truth


class TruthScorer(ABC):
    """Scores pairs of indices by what a synthetic dataset was drawn from, on the same questions as all models.

    Raises:
        UserError: the truth cannot be read.
    """

    is_probability = False

    def __init__(self, data: TrainingData, settings: NoSettings, seed: int):
        if data.features is None or data.tables is None:
            raise ValueError("the truth needs the features and the folder of the tables")
        from workflows.synthetic.truth import load_truth  # takes seconds to import, and only synthetic data needs it

        self._truth = load_truth(data.tables)
        self._user_ids, self._movie_ids = (
            pq.read_table(data.features.folder / "vocabulary" / f"{name}.parquet")[name].to_numpy()
            for name in (USER_ID, MOVIE_ID)
        )

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """float32 [n] of int64 [n] indices, none of them reserved."""
        user_ids, movie_ids = self._user_ids[user - FIRST_INDEX], self._movie_ids[movie - FIRST_INDEX]
        return self.score(self._truth, user_ids, movie_ids).astype(np.float32)

    @staticmethod
    @abstractmethod
    def score(truth: "Truth", user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """float [n] of int64 [n] MovieLens ids."""


class TrueWatching(TruthScorer):
    """How likely a user is to rate a movie."""

    @staticmethod
    def score(truth: "Truth", user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """float [n] of int64 [n] MovieLens ids."""
        return truth.watch(user_ids, movie_ids)


class TrueLiking(TruthScorer):
    """The probability that a user likes a movie that the user has rated."""

    is_probability = True

    @staticmethod
    def score(truth: "Truth", user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """float [n] of int64 [n] MovieLens ids."""
        return truth.like(user_ids, movie_ids)


def is_synthetic(tables: Path | None) -> bool:
    """Whether a dataset is synthetic, so that its truth lies beside its tables."""
    return tables is not None and (tables / SUMMARY).is_file()


for task, scorer in (("ranking", TrueWatching), ("classification", TrueLiking)):
    add(
        Baseline(
            name="truth",
            title="Truth",
            tasks=(task,),
            fit=scorer,
            is_cheap=True,
            applies=is_synthetic,
            position=1000,
        )
    )
