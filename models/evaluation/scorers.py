"""Trained networks as plain functions of NumPy arrays."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from core.errors import UserError
from models.data.batches import all_shared
from models.data.features import Features
from models.data.history import History, Timeline, timeline
from models.data.interactions import Candidates, Interactions
from models.evaluation.judgement import Asked, ScoreLists, ScorePairs, Scorer
from models.networks.base import NETWORKS, Recommender, cut_of
from models.protocols.base import PROTOCOLS

SCORING_ROWS = 1 << 16


def pair_scorer(model: Recommender, device: torch.device, protocol: str) -> ScorePairs:
    """The model as a function of int64 [n] user and movie indices, now, to float32 [n] probabilities (or stars)."""
    answer = PROTOCOLS[protocol].answer

    @torch.inference_mode()
    def score(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        model.eval()
        pieces = max(1, -(-len(user) // SCORING_ROWS))
        parts = []
        for users, movies in zip(np.array_split(user, pieces), np.array_split(movie, pieces)):
            u, m = torch.from_numpy(users).to(device), torch.from_numpy(movies).to(device)
            history = None
            if model.uses_history:  # worked out once for each user, not for each pair
                each, owner = torch.unique(u, return_inverse=True)
                history = replace(model.now(each), owner=owner)
            parts.append(answer(model(u, m, None, history)).cpu().numpy())
        return np.concatenate(parts)

    return score


def row_scorer(
    model: Recommender, device: torch.device, protocol: str, past: Timeline | None
) -> Callable[[Interactions], np.ndarray]:
    """The model as a function of a split's rows, each at its own time, to float32 [n] probabilities (or stars).

    Args:
        past: what the model may know, or None where it sees no history.
    """
    answer = PROTOCOLS[protocol].answer

    @torch.inference_mode()
    def score(rows: Interactions) -> np.ndarray:
        model.eval()
        places = past.places(rows) if past else None
        parts = []
        for start in range(0, len(rows), SCORING_ROWS):
            here = slice(start, start + SCORING_ROWS)
            user, movie = rows.user[here].long(), rows.movie[here].long()
            history: History | None = None
            if past is not None and places is not None:
                history = past.at(user, places[here].long()).to(device)
            parts.append(answer(model(user.to(device), movie.to(device), None, history)).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    return score


def list_scorer(model: Recommender, protocol: str) -> ScoreLists | None:
    """The model as a function of int64 [u] users and int64 [m] movies to probabilities of each with each.

    In matrix products, which is several times faster than pair by pair: of the model's cut for serving, on the CPU, or
    as it learns against shared movies. None where the network has neither.
    """
    network = NETWORKS[model.name]
    if network.cut is not None and model.offset.device.type == "cpu":
        return _by_cut(model)
    return None if network.against is None else _by_shared_movies(model, protocol)


def _by_cut(model: Recommender) -> ScoreLists:
    @torch.inference_mode()
    def score(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        model.eval()
        parts = cut_of(model, torch.from_numpy(user), torch.from_numpy(movie))
        head = parts.head.for_one_user()
        rows, vectors, hidden = (torch.from_numpy(part) for part in (parts.users, parts.vectors, parts.hidden))
        return np.stack([head(row, vectors, hidden).numpy() for row in rows.split(1)])

    return score


def _by_shared_movies(model: Recommender, protocol: str) -> ScoreLists:
    answer, device = PROTOCOLS[protocol].answer, model.offset.device

    @torch.inference_mode()
    def score(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        model.eval()
        movies = torch.from_numpy(movie).to(device)
        parts = []
        for users in torch.from_numpy(user).to(device).split(max(1, SCORING_ROWS // len(movies))):
            history = model.now(users) if model.uses_history else None
            batch = all_shared(users, movies, history)
            raw = model.against(batch)[:, 1:] - model.offset
            parts.append(answer(raw * model.scale + model.offset).cpu().numpy())
        return np.concatenate(parts)

    return score


def network_scorer(model: Recommender, device: torch.device, protocol: str, past: Timeline | None) -> Scorer:
    """A network as validation and test ask it.

    Its scores raise `UserError` where they are not numbers, as weights that are finite can be too large for a sum.

    Args:
        past: what the model may know, or None where it sees no history.
    """
    rows = row_scorer(model, device, protocol, past)

    def asked(questions: Candidates) -> Asked:
        then = model
        if past is not None:
            # copies, as arrays that were read from files cannot be written to, of which PyTorch warns
            user, not_before = torch.tensor(questions.user), torch.tensor(questions.not_before)
            then = model.as_of(user, past.at(user.long(), past.places_of(user, not_before).long()))
        pairs, lists = pair_scorer(then, device, protocol), list_scorer(then, protocol)
        return Asked(
            lambda user, movie: _numbers(pairs(user, movie)),
            None if lists is None else lambda user, movie: _numbers(lists(user, movie)),
        )

    return Scorer(asked, lambda table: _numbers(rows(table)), is_probability=True)


def _numbers(scores: np.ndarray) -> np.ndarray:
    if np.isnan(scores).any():
        raise UserError("training broke down: the model's scores are not numbers; lower --learning-rate")
    return scores


def past_of(model: Recommender, features: Features, known: tuple[str, ...]) -> Timeline | None:
    """What a network may know, from the ratings of some splits; None where it sees no history."""
    return timeline(features, known, model.now_movies.shape[1]) if model.uses_history else None
