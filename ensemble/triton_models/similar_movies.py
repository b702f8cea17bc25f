"""What `similar` answers."""

from pathlib import Path

import numpy as np

from .files import SIMILAR_VECTORS
from .limits import DEFAULT_K, BadRequest, check_k
from .loading import load_array
from .lookup import Lookup
from .serving_config import read_serving_config
from .top_k import top_k


class SimilarMovies:
    """The movies most like another.

    Args:
        folder: the version folder of `similar`.
    """

    def __init__(self, folder: Path):
        config = read_serving_config(folder)
        self.movies = Lookup(folder, "movie_id", config.unknown_index)
        self.vectors = load_array(folder / SIMILAR_VECTORS)

    def similar(self, movie_id: int | bytes, k: int = DEFAULT_K) -> tuple[np.ndarray, np.ndarray]:
        """The `k` movies most like one, by the cosine of their vectors, learned and of content.

        Returns:
            Movie ids, as `Lookup` has them, and float32 cosines, best first, without the movie itself.

        Raises:
            BadRequest: `k` outside 1 to 1000, or no such movie.
        """
        check_k(k)
        index = self.movies.index_of(movie_id)
        if index == self.movies.unknown:
            shown = movie_id[:60].decode("utf-8", "replace") if isinstance(movie_id, bytes) else movie_id
            raise BadRequest(f"movie {shown} is not in the data")
        place = np.array([index - self.movies.index[0]])
        cosines = np.einsum("md,d->m", self.vectors, self.vectors[place[0]])  # not @: BLAS would take all cores
        return top_k(self.movies.ids, cosines, place, k)
