"""What `recommend` answers."""

from pathlib import Path

import numpy as np

from .files import RATED, RATED_STARTS
from .history import without_repeats
from .limits import DEFAULT_K, LARGEST_HISTORY, BadRequest, check_k, choose
from .loading import load_array
from .lookup import Lookup
from .ranking import Ranking
from .serving_config import STRATEGIES, read_serving_config
from .top_k import top_k

CANDIDATES_PER_K = 50
NO_MOVIES = np.empty(0, np.int64)


class Recommendations:
    """The best movies of the catalogue, by any of the networks, which share the vocabularies and what users have rated.

    Args:
        folder: the version folder of `recommend`.
    """

    def __init__(self, folder: Path):
        config = read_serving_config(folder)
        self.default_model = config.default_model
        self.candidates = config.candidates
        self.users = Lookup(folder, "user_id", config.unknown_index)
        self.movies = Lookup(folder, "movie_id", config.unknown_index)
        self.first = int(self.movies.index[0])  # the catalogue's rows come after the reserved ones
        self.rankings = {
            name: Ranking(folder, name, network.strategy, self.first) for name, network in config.networks.items()
        }
        self.rated, self.rated_starts = load_array(folder / RATED), load_array(folder / RATED_STARTS)
        self.popularity = (self.movies.ratings / config.raters).astype(np.float32)

    def recommend(
        self,
        user_id: int | bytes | None,
        k: int = DEFAULT_K,
        history: np.ndarray = NO_MOVIES,
        strategy: str = "",
        model: str = "",
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """The best `k` movies that the user has neither rated nor listed, by a network's score.

        Args:
            user_id: None for someone without an id, who is answered as one whose id is in no table.
            history: [m], raw ids of movies that someone unknown likes, the latest last: SASRec reads them as the user's
                history, for other networks a row is fitted. Ids that are in no table are ignored; an id that is listed
                more than once counts where it is last. A known user's are left out of the answer, and change nothing
                else.
            strategy: `exact` scores the whole catalogue; `two-stage` scores `candidates` movies (or 50 `k`, if that is
                more) that a retrieval network finds; empty for the network's default.
            model: a network such as `dlrm`; empty for the repository's default.

        Returns:
            Movie ids, as `Lookup` has them, and float32 scores, best first, equal scores in the catalogue's order;
            fewer than `k` where the user has rated nearly everything. Whether the answer is personal: False for an
            unknown user without history, who gets the most rated movies, with the share of all users that rated each
            as the score.

        Raises:
            BadRequest: `k` outside 1 to 1000, a history of more than 10,000, no such strategy or model.
        """
        ranking, strategy = self._check(k, history, strategy, model)
        user = self.users.unknown if user_id is None else self.users.index_of(user_id)
        listed = self.movies(history)[0]
        listed = without_repeats(listed[listed != self.movies.unknown])
        excluded = listed - self.first
        if user != self.users.unknown:
            row = ranking.user_row(user)
            excluded = np.concatenate([excluded, self.rated_by(user)])
        elif len(listed):
            row = ranking.newcomer_row(listed)
        else:
            return *top_k(self.movies.ids, self.popularity.copy(), excluded, k), False
        candidates = max(self.candidates, CANDIDATES_PER_K * k)
        if strategy == "exact" or 2 * candidates > len(self.movies.ids):
            return *top_k(self.movies.ids, ranking.scores(row), excluded, k), True
        found = ranking.candidates(row, excluded, candidates)
        return *top_k(self.movies.ids[found], ranking.scores_of(row, found), NO_MOVIES, k), True

    def rated_by(self, user: int) -> np.ndarray:
        """The places in the catalogue, int32 [m], of what the user with this index has rated, in any split."""
        return self.rated[self.rated_starts[user] : self.rated_starts[user + 1]]

    def _check(self, k: int, history: np.ndarray, strategy: str, model: str) -> tuple[Ranking, str]:
        """The network and the strategy that a request asks for."""
        check_k(k)
        if history.ndim != 1 or len(history) > LARGEST_HISTORY:
            raise BadRequest(f"history has shape {list(history.shape)}; it must be [m], m at most {LARGEST_HISTORY}")
        ranking = self.rankings[choose("model", model, self.default_model, self.rankings)]
        return ranking, choose("strategy", strategy, ranking.strategy, STRATEGIES)
