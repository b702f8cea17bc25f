"""One network over the whole catalogue: what `recommend` needs of it."""

from pathlib import Path

import numpy as np

from .files import encoder_file, newcomers_file, retrieval_network_file, retrieval_vectors_file
from .history import newcomer_row
from .loading import load_array, load_arrays, load_network
from .network import Network


class Ranking:
    """
    Args:
        folder: the version folder of `recommend`.
        name: the network's.
        strategy: how it finds movies where a request does not say.
        first: the index of the catalogue's first movie.

    Attributes:
        network: the network.
        vector, hidden: its rows of the catalogue's movies.
        encoder: what reads someone's row from a list of movies; None where the network needs more than a list.
        newcomers: arrays by name, for `newcomer_row`; none where there is an encoder.
        query: the first of two stages: a user's row and `retrieval` to how near each movie is.
        retrieval: float32 [movies of the catalogue, dim].
    """

    def __init__(self, folder: Path, name: str, strategy: str, first: int):
        self.strategy = strategy
        self.network = Network(folder, name)
        self.vector, self.hidden = self.network.vector[first:], self.network.hidden[first:]
        encoder = folder / encoder_file(name)
        self.encoder = load_network(encoder) if encoder.is_file() else None
        self.newcomers = {} if self.encoder else load_arrays(folder / newcomers_file(name))
        self.query = load_network(folder / retrieval_network_file(name))
        self.retrieval = load_array(folder / retrieval_vectors_file(name))

    def user_row(self, user: int) -> np.ndarray:
        """The row of the user with this index, float32 [1, width]."""
        return self.network.user[user : user + 1]

    def newcomer_row(self, listed: np.ndarray) -> np.ndarray:
        """The same for someone unknown who likes the movies with these indices, int64 [m], m > 0."""
        if self.encoder:
            return np.asarray(self.encoder.run(None, {"movies": listed[None]})[0])
        return newcomer_row(self.newcomers, listed)

    def scores(self, row: np.ndarray) -> np.ndarray:
        """Probabilities of all movies of the catalogue, float32 [n], for a user's row."""
        return self.network.score_row(row, self.vector, self.hidden)

    def scores_of(self, row: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The same of the movies at these places, int64 [m]."""
        return self.network.score_row(row, self.vector[places], self.hidden[places])

    def candidates(self, row: np.ndarray, excluded: np.ndarray, count: int) -> np.ndarray:
        """What the first stage finds for a user's row: places in the catalogue, int64 [at most count], ascending."""
        nearness = self.query.run(None, {"user": row, "movie": self.retrieval})[0]
        nearness[excluded] = -np.inf
        found = np.sort(np.argpartition(nearness, -count)[-count:])
        return found[np.isfinite(nearness[found])]
