"""What a trained network says of someone who lists movies, for the check of what is exported."""

from collections.abc import Callable

import numpy as np
import torch

from models.data.history import NOTHING, WINDOWS, History
from models.evaluation.scorers import pair_scorer
from models.networks.base import Recommender
from workflows.features.vocabulary import OUT_OF_VOCABULARY

ScoreList = Callable[[np.ndarray, np.ndarray], np.ndarray]


def list_reader(model: Recommender, device: torch.device, protocol: str) -> ScoreList:
    """A model that sees nothing of a user but their last movies, as a function of int64 [m] movie indices, the latest
    last, and int64 [n] others to float32 [n] probabilities: those of someone who has rated the m and no others."""

    def score(listed: np.ndarray, movies: np.ndarray) -> np.ndarray:
        length = model.now_movies.shape[1]
        latest = torch.full((1, length), NOTHING)
        last = torch.from_numpy(listed[-length:]).flip(0)
        latest[0, : len(last)] = last
        history = History(latest, torch.zeros(1, length), torch.zeros(1, len(WINDOWS)))
        then = model.as_of(torch.tensor([OUT_OF_VOCABULARY]), history)
        return pair_scorer(then, device, protocol)(np.full(len(movies), OUT_OF_VOCABULARY), movies)

    return score
