"""What `score` answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .limits import LARGEST_BATCH, BadRequest, choose
from .lookup import Lookup
from .network import Network
from .serving_config import read_serving_config

Scored = tuple[np.ndarray, np.ndarray]  # float32 [n] probabilities, bool [n] whether both ids are in the vocabulary


class Scores:
    """Scores of (user, movie) pairs by any of the networks.

    Args:
        folder: the version folder of `scorer`.
    """

    def __init__(self, folder: Path):
        config = read_serving_config(folder)
        self.default_model = config.default_model
        self.users = Lookup(folder, "user_id", config.unknown_index)
        self.movies = Lookup(folder, "movie_id", config.unknown_index)
        self.networks = {name: Network(folder, name) for name in config.models}

    def check(self, user_id: np.ndarray, movie_id: np.ndarray, model: str = "") -> str:
        """The name of the network that a request asks for.

        Raises:
            BadRequest: arrays of different lengths, too many pairs, or no such model.
        """
        if user_id.ndim != 1 or user_id.shape != movie_id.shape:
            raise BadRequest(
                f"user_id has shape {list(user_id.shape)} and movie_id {list(movie_id.shape)}; both must be [n]"
            )
        if len(user_id) > LARGEST_BATCH:
            raise BadRequest(f"{len(user_id)} pairs in one request; ask for at most {LARGEST_BATCH} at a time")
        return choose("model", model, self.default_model, self.networks)

    def score(self, user_id: np.ndarray, movie_id: np.ndarray, model: str = "") -> Scored:
        """Probabilities of pairs.

        Args:
            user_id, movie_id: [n], raw ids, of the type that `Lookup` has.
            model: a network such as `dlrm`; empty for the default.

        Returns:
            float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary. A movie without ratings
            is scored by its features, an id that is in no table as average.

        Raises:
            BadRequest: as `check`.
        """
        return self._score(self.check(user_id, movie_id, model), user_id, movie_id)

    def score_batch(self, requests: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> list[Scored | BadRequest]:
        """What `score` answers to each of several requests, or why it does not, from one run of each network."""
        answers: dict[int, Scored | BadRequest] = {}
        requests_of: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            try:
                model = self.check(*request)
            except BadRequest as error:
                answers[number] = error
            else:
                requests_of.setdefault(model, []).append(number)
        for model, numbers in requests_of.items():
            user_id = np.concatenate([requests[number][0] for number in numbers])
            movie_id = np.concatenate([requests[number][1] for number in numbers])
            score, known = self._score(model, user_id, movie_id)
            start = 0
            for number in numbers:
                stop = start + len(requests[number][0])
                answers[number] = score[start:stop], known[start:stop]
                start = stop
        return [answers[number] for number in range(len(requests))]

    def _score(self, model: str, user_id: np.ndarray, movie_id: np.ndarray) -> Scored:
        user, user_known = self.users(user_id)
        movie, movie_known = self.movies(movie_id)
        return self.networks[model].score_pairs(user, movie), user_known & movie_known
