"""Trained models as plain functions of NumPy arrays, and what validation makes of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from core.run_folder import RATING_PROTOCOL
from models.data.features import Features, Interactions
from models.data.history import Moment, Timeline, timeline
from models.evaluation.judgement import Contender, leave_one_out_metrics, random_split_metrics, rating_metrics
from models.networks.base import Recommender

SCORING_ROWS = 1 << 16
# What validation chooses by, and whether more is better.
MONITOR = {"leave-one-out": "ndcg@10", "random-split": "auc", RATING_PROTOCOL: "rmse"}
SIGN = {"ndcg@10": 1, "auc": 1, "rmse": -1}


def scorer(
    model: Recommender, device: torch.device, protocol: str = "leave-one-out"
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The model as a function of int64 [n] user and movie indices, now, to float32 [n] probabilities (or stars)."""
    answer = _answer(protocol)

    @torch.inference_mode()
    def score(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        model.eval()
        pieces = max(1, -(-len(user) // SCORING_ROWS))
        parts = []
        for users, movies in zip(np.array_split(user, pieces), np.array_split(movie, pieces)):
            u, m = torch.from_numpy(users).to(device), torch.from_numpy(movies).to(device)
            moment = None
            if model.uses_moments:  # worked out once for each user, not for each pair
                each, owner = torch.unique(u, return_inverse=True)
                moment = replace(model.now(each), owner=owner)
            parts.append(answer(model(u, m, None, moment)).cpu().numpy())
        return np.concatenate(parts)

    return score


def rows_scorer(
    model: Recommender, device: torch.device, protocol: str, timeline: Timeline | None
) -> Callable[[Interactions], np.ndarray]:
    """The model as a function of a split's rows, each at its own moment, to float32 [n] probabilities (or stars).

    Args:
        timeline: what the model may know, or None where it knows of no moments.
    """
    answer = _answer(protocol)

    @torch.inference_mode()
    def score(rows: Interactions) -> np.ndarray:
        model.eval()
        places = timeline.places(rows) if timeline else None
        parts = []
        for start in range(0, len(rows), SCORING_ROWS):
            here = slice(start, start + SCORING_ROWS)
            user, movie = rows.user[here].long(), rows.movie[here].long()
            moment: Moment | None = None
            if timeline is not None and places is not None:
                moment = timeline.at(user, places[here].long()).to(device)
            parts.append(answer(model(user.to(device), movie.to(device), None, moment)).cpu().numpy())
        return np.concatenate(parts)

    return score


def _answer(protocol: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return (lambda stars: stars) if protocol == RATING_PROTOCOL else torch.sigmoid


def validator(
    features: Features, device: torch.device, timeline: Timeline | None
) -> Callable[[Recommender], dict[str, float]]:
    """A function that judges a model by the validation split of the features' protocol."""
    protocol = features.protocol
    if protocol == "leave-one-out":
        questions = features.candidates("valid")
        return lambda model: leave_one_out_metrics(scorer(model, device), questions).means()
    rows = features.interactions("valid")
    judge = rating_metrics if protocol == RATING_PROTOCOL else random_split_metrics
    return lambda model: judge(rows_scorer(model, device, protocol, timeline)(rows), rows).means()


def contender(model: Recommender, features: Features, known: tuple[str, ...], device: torch.device) -> Contender:
    """A trained model, as the test set asks it.

    Args:
        known: the splits that it was trained on, whose ratings it may know of.
    """
    past = timeline(features, known, model.now_movies.shape[1]) if model.uses_moments else None
    pairs = scorer(model, device, features.protocol)
    return Contender(pairs, rows_scorer(model, device, features.protocol, past), True)
