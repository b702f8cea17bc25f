"""What a twin is given of a batch, as NumPy arrays: the inputs that a network sees, gathered by the same code."""

import numpy as np
import torch
from torch import Tensor

from core.columns import HISTORY, HISTORY_STARS, MOVIE_ID
from models.data.batches import Batch
from models.networks.base import CONTINUOUS_BLOCKS, Recommender

OF_MOVIES, OF_USERS = "continuous_of_movies", "continuous_of_users"  # the parts of the continuous inputs


@torch.no_grad()
def pair_inputs(model: Recommender, batch: Batch) -> dict[str, np.ndarray]:
    """The inputs of each sample by itself, as `Recommender.inputs` has them."""
    return _numpy(model.inputs(batch.user, batch.movie, batch.fold, batch.history))


@torch.no_grad()
def shared_inputs(model: Recommender, batch: Batch) -> dict[str, np.ndarray]:
    """The inputs of n positives and of the k movies that they share.

    Returns:
        The codes of users, [n], and of movies, [n + k], first the positives' own; histories, [n, length]; of the
        continuous inputs those of movies, float32 [n + k, ...], and those of users, float32 [n, ...].
    """
    shared = batch.negatives()
    inputs = {**model.codes(batch.user, batch.movie), MOVIE_ID: model.movie_rows(batch.movies())}
    if batch.history is not None:
        inputs[HISTORY] = model.movie_rows(batch.history.movies)
        inputs[HISTORY_STARS] = batch.history.stars
    if model.uses_features:
        own = model.continuous(batch.user, batch.movie, batch.fold, batch.history)
        others = model.continuous(torch.zeros_like(shared.movie), shared.movie, shared.fold, None)
        of_movies = [name for name in CONTINUOUS_BLOCKS if name.startswith("movie_")]
        of_users = [own[name] for name in CONTINUOUS_BLOCKS if name in own and name not in of_movies]
        parts = [torch.cat([found[name] for name in of_movies], dim=1) for found in (own, others)]
        inputs[OF_MOVIES] = torch.cat(parts)
        inputs[OF_USERS] = torch.cat(of_users, dim=1) if of_users else parts[0].new_zeros((len(batch), 0))
    return _numpy(inputs)


def _numpy(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: values.cpu().numpy() for name, values in inputs.items()}
