"""A user's row for someone unknown, from a list of movies that they like."""

import numpy as np


def without_repeats(movies: np.ndarray) -> np.ndarray:
    """Each movie of a list where it is last, in the order of the list: in the data, no one rates a movie twice."""
    last = len(movies) - 1 - np.unique(movies[::-1], return_index=True)[1]
    return movies[np.sort(last)]


def history_features(vectors: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """A history as numbers: the mean of its movies' vectors, their sum over the root of its length, its length, and 1.

    Args:
        vectors: float32 [movies, dims], a row per movie index.
        movies: int64 [m], m > 0, movie indices.

    Returns:
        float32 [2 * dims + 2].
    """
    total = vectors[movies].sum(axis=0)
    features = [total / len(movies), total / np.sqrt(len(movies)), [np.log1p(len(movies)), 1.0]]
    return np.concatenate(features).astype(np.float32)


def newcomer_row(newcomers: dict[str, np.ndarray], movies: np.ndarray) -> np.ndarray:
    """A user's row for someone unknown, float32 [1, width].

    Args:
        newcomers: arrays by name, as `ensemble.export.newcomers.fit_newcomers` returns them. `vectors` and `map` give a
            row. Where the network knows a user's last movies, `past`, `position` and `above` give the block of the row
            from `history_columns` [start, stop] on, and `recent_weights` [windows, width], `windows` and `above` are
            added to the block at `recent_columns` [start, stop].
        movies: int64 [m], m > 0, indices of movies that they like, the latest last.
    """
    row = history_features(newcomers["vectors"], movies) @ newcomers["map"]
    if "position" in newcomers:
        last = movies[::-1][: newcomers["position"].shape[1]]
        above = newcomers["above"]  # mean stars of a liked movie above those of other users
        weights = newcomers["position"][:, : len(last)] * np.array([[1.0], [above]], np.float32)
        start, stop = newcomers["history_columns"]
        row[start:stop] = (weights @ newcomers["past"][last]).ravel()
        counts = np.minimum(newcomers["windows"], len(movies))
        start, stop = newcomers["recent_columns"]
        row[start:stop] += (above * counts / (counts + 1)) @ newcomers["recent_weights"]
    return row[None].astype(np.float32)
