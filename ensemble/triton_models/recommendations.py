"""What `recommend` answers."""

from pathlib import Path

import numpy as np

from .files import NEWCOMERS, RATED, RATED_STARTS, RETRIEVAL_NETWORK, RETRIEVAL_VECTORS
from .history import newcomer_row, without_repeats
from .limits import DEFAULT_K, LARGEST_HISTORY, BadRequest, check_k
from .loading import load_array, load_arrays, load_network
from .lookup import Lookup
from .network import Network
from .serving_config import STRATEGIES, read_serving_config
from .top_k import top_k

CANDIDATES_PER_K = 50
NO_MOVIES = np.empty(0, np.int64)


class Recommendations:
    """The best movies of the catalogue, by the default network.

    Args:
        folder: the version folder of `recommend`.
    """

    def __init__(self, folder: Path):
        config = read_serving_config(folder)
        self.strategy: str = config.strategy
        self.candidates = config.candidates
        self.users = Lookup(folder, "user_id", config.unknown_index)
        self.movies = Lookup(folder, "movie_id", config.unknown_index)
        self.network = Network(folder, config.default_model)
        self.first = int(self.movies.index[0])  # the catalogue's rows come after the reserved ones
        self.vector, self.hidden = self.network.vector[self.first :], self.network.hidden[self.first :]
        self.rated, self.rated_starts = load_array(folder / RATED), load_array(folder / RATED_STARTS)
        self.newcomers = load_arrays(folder / NEWCOMERS)
        self.query = load_network(folder / RETRIEVAL_NETWORK)
        self.retrieval = load_array(folder / RETRIEVAL_VECTORS)
        self.popularity = (self.movies.ratings / config.raters).astype(np.float32)

    def recommend(
        self, user_id: int, k: int = DEFAULT_K, history: np.ndarray = NO_MOVIES, strategy: str = ""
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """The best `k` movies that the user has neither rated nor listed, by the default model's score.

        Args:
            history: int64 [m], raw ids of movies that someone unknown likes, the latest last. Ids that are in no table
                are ignored; an id that is listed more than once counts where it is last. A known user's are left out
                of the answer, and change nothing else.
            strategy: `exact` scores the whole catalogue; `two-stage` scores `candidates` movies (or 50 `k`, if that is
                more) that a retrieval network finds; empty for the repository's default.

        Returns:
            int64 movie ids and float32 scores, best first, equal scores in the catalogue's order; fewer than `k` where
            the user has rated nearly everything. Whether the answer is personal: False for an unknown user without
            history, who gets the most rated movies, with the share of all users that rated each as the score.

        Raises:
            BadRequest: `k` outside 1 to 1000, a history of more than 10,000, no such strategy.
        """
        strategy = self._check(k, history, strategy)
        user = int(self.users(np.array([user_id]))[0][0])
        listed = self.movies(history)[0]
        listed = without_repeats(listed[listed != self.movies.unknown])
        excluded = listed - self.first
        if user != self.users.unknown:
            row = self.network.user[user : user + 1]
            excluded = np.concatenate([excluded, self.rated_by(user)])
        elif len(listed):
            row = newcomer_row(self.newcomers, listed)
        else:
            return *top_k(self.movies.ids, self.popularity.copy(), excluded, k), False
        candidates = max(self.candidates, CANDIDATES_PER_K * k)
        if strategy == "exact" or 2 * candidates > len(self.vector):
            scores = self.network.score_row(row, self.vector, self.hidden)
            return *top_k(self.movies.ids, scores, excluded, k), True
        found = self._candidates(row, excluded, candidates)
        scores = self.network.score_row(row, self.vector[found], self.hidden[found])
        return *top_k(self.movies.ids[found], scores, NO_MOVIES, k), True

    def rated_by(self, user: int) -> np.ndarray:
        """The places in the catalogue, int32 [m], of what the user with this index has rated, in any split."""
        return self.rated[self.rated_starts[user] : self.rated_starts[user + 1]]

    def _check(self, k: int, history: np.ndarray, strategy: str) -> str:
        """The strategy that a request asks for."""
        check_k(k)
        if history.ndim != 1 or len(history) > LARGEST_HISTORY:
            raise BadRequest(f"history has shape {list(history.shape)}; it must be [m], m at most {LARGEST_HISTORY}")
        strategy = strategy or self.strategy
        if strategy not in STRATEGIES:
            raise BadRequest(f"unknown strategy {strategy[:40]!r}; choose one of {', '.join(STRATEGIES)}")
        return strategy

    def _candidates(self, row: np.ndarray, excluded: np.ndarray, count: int) -> np.ndarray:
        """What the first stage finds for a user's row: places in the catalogue, int64 [at most count], ascending."""
        nearness = self.query.run(None, {"user": row, "movie": self.retrieval})[0]
        nearness[excluded] = -np.inf
        found = np.sort(np.argpartition(nearness, -count)[-count:])
        return found[np.isfinite(nearness[found])]
