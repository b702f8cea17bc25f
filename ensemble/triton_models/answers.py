"""Answers from an exported folder: lookup tables in Parquet, rows of users and movies in NumPy's files, ONNX networks.

The whole serving logic, without Triton, so that it can be tested and read alone. `export` copies this file next to each
model's `model.py`; it imports numpy, pyarrow and ONNX Runtime, nothing of training, and unpickles nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

ROWS_AT_ONCE = 2048  # rows that a head scores at a time: what it works on then stays in the processor's cache
LARGEST_BATCH = 1 << 18  # pairs of one request, so that none keeps the others waiting for long
LARGEST_K = 1000
LARGEST_HISTORY = 10_000
DEFAULT_K = 10
STRATEGIES = ("exact", "two-stage")
CANDIDATES_PER_K = 50
NO_MOVIES = np.empty(0, np.int64)

Scored = tuple[np.ndarray, np.ndarray]


class BadRequest(Exception):
    """The client's mistake, in one sentence."""


def session(path: Path) -> onnxruntime.InferenceSession:
    """A network on one thread: instances that each take all cores fight for them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def table(path: Path) -> np.ndarray:
    """An array in a file, mapped into memory, so that instances share it."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


class Lookup:
    """Raw MovieLens ids to indices."""

    def __init__(self, path: Path, name: str, unknown: int):
        columns = pq.read_table(path)
        ids = columns[name].to_numpy()
        order = np.argsort(ids, kind="stable")
        self.ids = ids  # in the order of their indices
        self.index = columns["index"].to_numpy().astype(np.int64)
        self.ratings = columns["ratings"].to_numpy()
        self.sorted_ids, self.sorted_index = ids[order], self.index[order]
        self.sorted_known = columns["known"].to_numpy(zero_copy_only=False)[order]
        self.unknown = unknown

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices, int64 [n], and whether each id is in the vocabulary, bool [n]; an unknown id gets `unknown`."""
        place = np.minimum(np.searchsorted(self.sorted_ids, ids), len(self.sorted_ids) - 1)
        there = self.sorted_ids[place] == ids
        return np.where(there, self.sorted_index[place], self.unknown), there & self.sorted_known[place]


class Network:
    """A network cut in three: a row for every user, rows for every movie, and the head that scores them."""

    def __init__(self, folder: Path, name: str):
        self.user, self.vector, self.hidden = (
            table(folder / f"{name}.{kind}.npy") for kind in ("user", "vector", "hidden")
        )
        self.head = session(folder / f"{name}.onnx")

    def pairs(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [n], of int64 [n] user and movie indices."""
        scores = np.empty(len(user), np.float32)
        for start in range(0, len(user), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            movies = movie[here]
            inputs = {"user": self.user[user[here]], "vector": self.vector[movies], "hidden": self.hidden[movies]}
            scores[here] = self.head.run(None, inputs)[0]
        return scores

    def of_row(self, row: np.ndarray, vector: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [n], of one user's row, float32 [1, width], with rows of n movies."""
        scores = np.empty(len(vector), np.float32)
        for start in range(0, len(vector), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            scores[here] = self.head.run(None, {"user": row, "vector": vector[here], "hidden": hidden[here]})[0]
        return scores


class Scores:
    """What `score` answers."""

    def __init__(self, folder: Path):
        facts = json.loads((folder / "serving.json").read_text())
        self.default_model: str = facts["default_model"]
        self.users = Lookup(folder / "user_id.parquet", "user_id", facts["unknown_index"])
        self.movies = Lookup(folder / "movie_id.parquet", "movie_id", facts["unknown_index"])
        self.networks = {name: Network(folder, name) for name in facts["models"]}

    def check(self, user_id: np.ndarray, movie_id: np.ndarray, model: str = "") -> str:
        """The name of the network that a request asks.

        Raises:
            BadRequest: arrays of different lengths, too many pairs, or no such model.
        """
        if user_id.ndim != 1 or user_id.shape != movie_id.shape:
            raise BadRequest(
                f"user_id has shape {list(user_id.shape)} and movie_id {list(movie_id.shape)}; both must be [n]"
            )
        if len(user_id) > LARGEST_BATCH:
            raise BadRequest(f"{len(user_id)} pairs in one request; ask for at most {LARGEST_BATCH} at a time")
        model = model or self.default_model
        if model not in self.networks:
            raise BadRequest(f"unknown model {model[:40]!r}; choose one of {', '.join(self.networks)}")
        return model

    def score(self, user_id: np.ndarray, movie_id: np.ndarray, model: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of pairs.

        Args:
            user_id, movie_id: int64 [n], raw MovieLens ids.
            model: `dlrm` or `ncf`; empty for the default.

        Returns:
            float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary. A movie that nobody rated
            scores by its features, an id that is in no table as average.

        Raises:
            BadRequest: as `check`.
        """
        return self._score(self.check(user_id, movie_id, model), user_id, movie_id)

    def score_together(self, requests: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> list[Scored | BadRequest]:
        """What `score` answers to each of several requests, or why it does not, from one run of each network."""
        answers: list[Scored | BadRequest | None] = [None] * len(requests)
        asked: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            try:
                asked.setdefault(self.check(*request), []).append(place)
            except BadRequest as error:
                answers[place] = error
        for model, places in asked.items():
            users, movies = (np.concatenate([requests[place][side] for place in places]) for side in (0, 1))
            score, known = self._score(model, users, movies)
            start = 0
            for place in places:
                here = slice(start, start + len(requests[place][0]))
                answers[place] = score[here], known[here]
                start = here.stop
        return [answer for answer in answers if answer is not None]

    def _score(self, model: str, user_id: np.ndarray, movie_id: np.ndarray) -> Scored:
        user, user_known = self.users(user_id)
        movie, movie_known = self.movies(movie_id)
        return self.networks[model].pairs(user, movie), user_known & movie_known


class Recommendations:
    """What `recommend` answers."""

    def __init__(self, folder: Path):
        facts = json.loads((folder / "serving.json").read_text())
        self.strategy: str = facts["strategy"]
        self.users = Lookup(folder / "user_id.parquet", "user_id", facts["unknown_index"])
        self.movies = Lookup(folder / "movie_id.parquet", "movie_id", facts["unknown_index"])
        self.network = Network(folder, facts["default_model"])
        self.first = int(self.movies.index[0])  # rows of the catalogue, which come after the reserved ones
        self.vector, self.hidden = self.network.vector[self.first :], self.network.hidden[self.first :]
        self.rated, self.rated_starts = table(folder / "rated.npy"), table(folder / "rated_starts.npy")
        with np.load(folder / "newcomers.npz", allow_pickle=False) as arrays:
            self.newcomers = dict(arrays)
        self.query = session(folder / "retrieval.onnx")
        self.retrieval = table(folder / "retrieval.npy")
        self.candidates: int = facts["candidates"]
        self.popularity = (self.movies.ratings / facts["raters"]).astype(np.float32)

    def recommend(
        self, user_id: int, k: int = DEFAULT_K, history: np.ndarray = NO_MOVIES, strategy: str = ""
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """The best `k` movies that the user has neither rated nor listed, by the default model's score.

        Args:
            history: int64 [m], raw ids of movies that someone unknown likes, the latest last; ids that are in no table
                are passed over, and one that is there more than once counts where it is last. A known user's are left
                out of the answer, and change nothing else.
            strategy: `exact` scores the whole catalogue; `two-stage` scores `candidates` movies (or 50 `k`, if that is
                more) that a retrieval network finds; empty for the repository's default.

        Returns:
            int64 movie ids and float32 scores, best first, equal scores in the catalogue's order; fewer than `k` where
            the user has rated nearly everything. Whether the answer is personal: False for an unknown user without
            history, who gets the movies that most have rated, with the share of all users that did as the score.

        Raises:
            BadRequest: `k` outside 1 to 1000, a history of more than 10,000, no such strategy.
        """
        check_k(k)
        if history.ndim != 1 or len(history) > LARGEST_HISTORY:
            raise BadRequest(f"history has shape {list(history.shape)}; it must be [m], m at most {LARGEST_HISTORY}")
        strategy = strategy or self.strategy
        if strategy not in STRATEGIES:
            raise BadRequest(f"unknown strategy {strategy[:40]!r}; choose one of {', '.join(STRATEGIES)}")
        user = int(self.users(np.array([user_id]))[0][0])
        listed = self.movies(history)[0]
        listed = once(listed[listed != self.movies.unknown])
        closed = listed - self.first
        if user != self.users.unknown:
            row = self.network.user[user : user + 1]
            closed = np.concatenate([closed, self.rated_of(user)])
        elif len(listed):
            row = newcomer_row(self.newcomers, listed)
        else:
            return *best(self.movies.ids, self.popularity.copy(), closed, k), False
        wanted = max(self.candidates, CANDIDATES_PER_K * k)
        if strategy == "exact" or 2 * wanted > len(self.vector):
            return *best(self.movies.ids, self.network.of_row(row, self.vector, self.hidden), closed, k), True
        near = self.query.run(None, {"user": row, "movie": self.retrieval})[0]
        near[closed] = -np.inf
        found = np.sort(np.argpartition(near, -wanted)[-wanted:])
        found = found[np.isfinite(near[found])]
        scores = self.network.of_row(row, self.vector[found], self.hidden[found])
        return *best(self.movies.ids[found], scores, NO_MOVIES, k), True

    def rated_of(self, user: int) -> np.ndarray:
        """The places in the catalogue, int32 [m], of what the user with this index has rated, in any split."""
        return self.rated[self.rated_starts[user] : self.rated_starts[user + 1]]


class Similar:
    """What `similar` answers."""

    def __init__(self, folder: Path):
        facts = json.loads((folder / "serving.json").read_text())
        self.movies = Lookup(folder / "movie_id.parquet", "movie_id", facts["unknown_index"])
        self.vectors = table(folder / "similar.npy")

    def similar(self, movie_id: int, k: int = DEFAULT_K) -> Scored:
        """The `k` movies most like one, by the cosine of their vectors, learned and of content.

        Returns:
            int64 movie ids and float32 cosines, best first, without the movie itself.

        Raises:
            BadRequest: `k` outside 1 to 1000, or no such movie.
        """
        check_k(k)
        index = int(self.movies(np.array([movie_id]))[0][0])
        if index == self.movies.unknown:
            raise BadRequest(f"movie {movie_id} is not in the data")
        place = np.array([index - self.movies.index[0]])
        cosines = np.einsum("md,d->m", self.vectors, self.vectors[place[0]])  # not @: BLAS would take all cores
        return best(self.movies.ids, cosines, place, k)


def best(ids: np.ndarray, scores: np.ndarray, closed: np.ndarray, k: int) -> Scored:
    """The `k` best ids and their scores, equal scores in the order of the ids; without the places in `closed`.

    Changes `scores`.
    """
    scores[closed] = -np.inf
    k = min(k, int(np.isfinite(scores).sum()))
    if not k:
        return ids[:0], scores[:0]
    least = np.partition(scores, -k)[-k]
    top = np.flatnonzero(scores >= least)
    top = top[np.argsort(-scores[top], kind="stable")[:k]]
    return ids[top], scores[top]


def once(movies: np.ndarray) -> np.ndarray:
    """Each movie of a list where it is last, the others in their order: nobody in the data rates one twice."""
    last = len(movies) - 1 - np.unique(movies[::-1], return_index=True)[1]
    return movies[np.sort(last)]


def history_features(vectors: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """What a history says of its owner: float32 [2 * dims + 2], of float32 [movies, dims] and int64 [m], m > 0."""
    total = vectors[movies].sum(axis=0)
    said = [total / len(movies), total / np.sqrt(len(movies)), [np.log1p(len(movies)), 1.0]]
    return np.concatenate(said).astype(np.float32)


def newcomer_row(newcomers: dict[str, np.ndarray], movies: np.ndarray) -> np.ndarray:
    """A user's row for someone unknown, float32 [1, width].

    Args:
        newcomers: what `ensemble/newcomers.py` fitted.
        movies: int64 [m], m > 0, indices of movies that they like, the latest last.
    """
    row = history_features(newcomers["vectors"], movies) @ newcomers["map"]
    if "position" in newcomers:  # the network sees the last movies, and the mean stars above others' of the last few
        last = movies[::-1][: newcomers["position"].shape[1]]
        above = newcomers["above"]
        weights = newcomers["position"][:, : len(last)] * np.array([[1.0], [above]], np.float32)
        start, end = newcomers["columns"]
        row[start:end] = (weights @ newcomers["past"][last]).ravel()
        counts = np.minimum(newcomers["windows"], len(movies))
        row[-newcomers["mood"].shape[1] :] += (above * counts / (counts + 1)) @ newcomers["mood"]
    return row[None].astype(np.float32)


def check_k(k: int) -> None:
    """
    Raises:
        BadRequest: it is outside 1 to 1000.
    """
    if not 1 <= k <= LARGEST_K:
        raise BadRequest(f"k is {k}; it must be from 1 to {LARGEST_K}")
