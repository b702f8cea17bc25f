"""Movies that a user has not rated, drawn uniformly, in bulk, from one seed."""

import numpy as np


class NegativeSampler:
    """Draws uniformly from the movies that each user has not seen, exactly and without rejection.

    With a user's seen movies sorted, a_0 < a_1 < ..., the number of unseen movies below a_j is a_j - j. So the r-th
    unseen movie (from 0) is r plus the number of j with a_j - j <= r. One binary search over all users' values at once
    answers any number of draws.
    """

    def __init__(self, user: np.ndarray, movie: np.ndarray, first_movie: int, movies: int):
        """
        Args:
            user: int [pairs], the user index of each seen pair; pairs may repeat and come in any order.
            movie: int [pairs], the movie index of each seen pair.
            first_movie: the lowest movie index of the catalogue.
            movies: how many movies the catalogue has; their indices are consecutive.

        Raises:
            ValueError: a movie index outside the catalogue.
        """
        movie = np.asarray(movie, np.int64) - first_movie
        if len(movie) and not (movie.min() >= 0 and movie.max() < movies):
            raise ValueError("a movie index is outside the catalogue")
        self.first_movie = first_movie
        self.movies = movies
        self.stride = movies + 1
        pairs = np.unique(np.asarray(user, np.int64) * movies + movie)
        users = pairs // movies
        self.starts = np.searchsorted(users, np.arange((users[-1] if len(users) else -1) + 2))
        below = pairs % movies - (np.arange(len(pairs)) - self.starts[users])
        self.keys = users * self.stride + below

    def pairs(self) -> np.ndarray:
        """The seen pairs as user * `stride` + movie, counted from `first_movie`: int64, ascending."""
        users, below = self.keys // self.stride, self.keys % self.stride
        return users * self.stride + below + np.arange(len(users)) - self.starts[users]

    def unseen(self, user: np.ndarray) -> np.ndarray:
        """How many movies of the catalogue each user has not seen, int64, in the shape of `user`."""
        known = np.minimum(user, len(self.starts) - 2)
        seen = self.starts[known + 1] - self.starts[known]
        return self.movies - np.where(known == user, seen, 0)

    def nth_unseen(self, user: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """The movie index of the user's `rank`-th unseen movie, counted from 0 in ascending order.

        Args:
            user: int [...], user indices.
            rank: int [...], each below `unseen(user)`; broadcast with `user`.
        """
        user, rank = np.broadcast_arrays(np.asarray(user, np.int64), np.asarray(rank, np.int64))
        found = np.searchsorted(self.keys, user * self.stride + rank, side="right")
        starts = self.starts[np.minimum(user, len(self.starts) - 1)]
        return self.first_movie + rank + found - starts

    def draw(self, user: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` unseen movies per user, uniformly and with replacement: int64 [users, count] of movie indices.

        Raises:
            ValueError: a user has seen the whole catalogue.
        """
        unseen = self.unseen(user)
        if len(unseen) and unseen.min() < 1:
            raise ValueError("a user has seen every movie of the catalogue; there is nothing to draw")
        rank = rng.integers(0, unseen[:, None], (len(user), count))
        return self.nth_unseen(np.asarray(user)[:, None], rank)

    def draw_distinct(self, user: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` different unseen movies per user: int64 [users, count], ascending, padded with -1 at the end.

        A set drawn one by one with repeats skipped is uniform over all sets of its size; here only the repeats are
        drawn again, for all users at once. A user with fewer unseen movies gets them all.
        """
        unseen = self.unseen(user)[:, None]
        rank = np.sort(np.where(unseen > count, rng.integers(0, np.maximum(unseen, 1), (len(user), count)), 0), axis=1)
        open_rows = np.flatnonzero(unseen[:, 0] > count)
        while len(open_rows):
            part = rank[open_rows]
            repeat = np.zeros(part.shape, bool)
            repeat[:, 1:] = part[:, 1:] == part[:, :-1]
            again = repeat.any(axis=1)
            open_rows, part, repeat = open_rows[again], part[again], repeat[again]
            rank[open_rows] = np.sort(np.where(repeat, rng.integers(0, unseen[open_rows], part.shape), part), axis=1)
        everything = np.arange(count)
        few = unseen <= count
        rank = np.where(few, np.minimum(everything, np.maximum(unseen - 1, 0)), rank)
        drawn = self.nth_unseen(np.asarray(user)[:, None], rank)
        return np.where(few & (everything >= unseen), -1, drawn)
