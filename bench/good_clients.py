"""Clients that ask without pause, over gRPC and HTTP, and hold every answer against the exported files.

Whatever is done to the server meanwhile, each of their requests ends as right, wrong or failed.
"""

import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attacks import Target

from core.errors import UserError
from ensemble import client
from ensemble.client import Access
from ensemble.headers import SECRET_HEADER

PATIENCE = 10.0  # seconds that a client waits for an answer
TOLERANCE = 1e-5
PROTOCOLS = ("grpc", "grpc", "grpc", "http")  # of the clients
QUESTIONS = 200  # of each kind, asked in a random order
PAIRS = 50  # of a `score`, at most
K = 10
DATATYPES = {"i": "INT64", "U": "BYTES"}  # by the kind of NumPy's dtype

Answer = tuple[np.ndarray, np.ndarray]
Ask = Callable[[str, dict[str, Any]], Answer]  # kind, the tensors by name


@dataclass(frozen=True)
class Question:
    """A request and its answer: what is scored, and the scores.

    Attributes:
        kind: the Triton model.
        tensors: its inputs by name.
        others, numbers: the output that must be equal, and the one that may differ by `TOLERANCE`.
    """

    kind: str
    tensors: dict[str, Any]
    others: np.ndarray
    numbers: np.ndarray

    def is_right(self, answer: Answer) -> bool:
        """Whether an answer is this one."""
        others, numbers = answer
        return (
            len(numbers) == len(self.numbers)
            and bool((others == self.others).all())
            and bool(np.abs(numbers - self.numbers).max(initial=0) <= TOLERANCE)
        )


def questions(repository: Path) -> list[Question]:
    """Questions of each kind, with what the files answer that the repository's manifest names."""
    from ensemble.triton_models.recommendations import Recommendations
    from ensemble.triton_models.scores import Scores
    from ensemble.triton_models.similar_movies import SimilarMovies

    version = str(json.loads((repository / "manifest.json").read_text())["version"])
    scores = Scores(repository / "scorer" / version)
    recommendations = Recommendations(repository / "recommend" / version)
    similar = SimilarMovies(repository / "similar" / version)
    rng = np.random.default_rng(0)
    made = []
    for number in range(QUESTIONS):
        pairs = 1 + number % PAIRS
        users, movies = rng.choice(scores.users.ids, pairs), rng.choice(scores.movies.ids, pairs)
        model = ("dlrm", "ncf")[number % 2]
        numbers, known = scores.score(users, movies, model)
        made.append(Question("score", {"user_id": users, "movie_id": movies, "model": [model]}, known, numbers))
        user, movie = users[:1], movies[:1]
        found, best, _ = recommendations.recommend(int(user[0]), K, strategy="exact")
        made.append(Question("recommend", {"user_id": user, "k": [K], "strategy": ["exact"]}, found, best))
        made.append(Question("similar", {"movie_id": movie, "k": [K]}, *similar.similar(int(movie[0]), K)))
    return made


# -- asking ------------------------------------------------------------------------------------------------------------


def asks_grpc(target: Target, timeout: float) -> Ask:
    """Asks as programs do that use Marquee's client."""
    marquee = client.Client(target.grpc, access=Access(target.secret), timeout=timeout)

    def ask(kind: str, tensors: dict[str, Any]) -> Answer:
        if kind == "score":
            scores = marquee.score(tensors["user_id"], tensors["movie_id"], tensors["model"][0])
            return scores.known, scores.score
        if kind == "recommend":
            best = marquee.recommend(int(tensors["user_id"][0]), K, strategy=tensors["strategy"][0])
            return best.movie_id, best.score
        alike = marquee.similar(int(tensors["movie_id"][0]), K)
        return alike.movie_id, alike.score

    return ask


def asks_http(target: Target, timeout: float) -> Ask:
    """Asks with JSON on a kept connection, and makes another one after an error."""
    host, _, port = target.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    headers = {"Content-Type": "application/json", **({SECRET_HEADER: target.secret} if target.secret else {})}

    def ask(kind: str, tensors: dict[str, Any]) -> Answer:
        body = json.dumps({"inputs": [_json_tensor(name, values) for name, values in tensors.items()]})
        try:
            connection.request("POST", f"/v2/models/{kind}/infer", body, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UserError(f"HTTP: {type(error).__name__}") from None
        if response.status != http.client.OK:
            raise UserError(f"HTTP {response.status}: {text[:200].decode(errors='replace')}")
        outputs = {output["name"]: np.array(output["data"]) for output in json.loads(text)["outputs"]}
        return outputs["known" if kind == "score" else "movie_id"], outputs["score"]

    return ask


def _json_tensor(name: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    datatype = "INT32" if name == "k" else DATATYPES[array.dtype.kind]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.tolist()}


ASKS = {"grpc": asks_grpc, "http": asks_http}


# -- clients -----------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        failures: when, and the error message.
        seconds: of the right answers, by kind and protocol.
    """

    right: int = 0
    wrong: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, more: "Seen") -> None:
        """Takes in what was seen later."""
        self.right += more.right
        self.wrong += more.wrong
        self.failures += more.failures
        for what, seconds in more.seconds.items():
            self.seconds[what] += seconds

    @property
    def reasons(self) -> dict[str, int]:
        """How many requests failed with each message, the most frequent first."""
        return dict(Counter(message for _, message in self.failures).most_common())

    def latencies(self) -> dict[str, dict[str, float]]:
        """Milliseconds of the right answers: median, 99th percentile and the longest, by kind and protocol."""
        return {what: percentiles(seconds) for what, seconds in sorted(self.seconds.items()) if seconds}


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """
    >>> percentiles([0.001, 0.002, 0.009])
    {'p50_ms': 2.0, 'p99_ms': 8.86, 'longest_ms': 9.0}
    """
    p50, p99, longest = np.percentile(list(seconds), [50, 99, 100]) * 1000
    return {name: round(float(v), 3) for name, v in (("p50_ms", p50), ("p99_ms", p99), ("longest_ms", longest))}


class Clients:
    """Threads that ask and compare, until the block ends.

    Args:
        repository: whose answers are right.
        protocols: of each client.
        timeout: seconds that each waits for an answer.
    """

    def __init__(
        self, target: Target, repository: Path, protocols: tuple[str, ...] = PROTOCOLS, timeout: float = PATIENCE
    ):
        self.target, self.timeout = target, timeout
        self.questions = questions(repository)
        self.seen = Seen()
        self.asking_since: dict[int, float] = {}  # by the client's number
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.threads = [
            threading.Thread(target=self._ask, args=(number, protocol), daemon=True)
            for number, protocol in enumerate(protocols)
        ]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def longest_wait(self) -> float:
        """Seconds that the client has waited for an answer that waits the longest now."""
        return time.monotonic() - min(self.asking_since.values(), default=time.monotonic())

    def take(self) -> Seen:
        """What was seen since the last call."""
        with self.lock:
            seen, self.seen = self.seen, Seen()
        return seen

    def _ask(self, number: int, protocol: str) -> None:
        ask = ASKS[protocol](self.target, self.timeout)
        rng = np.random.default_rng(number)
        while not self.stopped.is_set():
            question = self.questions[int(rng.integers(len(self.questions)))]
            began = self.asking_since[number] = time.monotonic()
            try:
                right = question.is_right(ask(question.kind, question.tensors))
            except UserError as error:
                with self.lock:
                    self.seen.failures.append((time.monotonic(), str(error)))
                time.sleep(0.05)
                continue
            with self.lock:
                self.seen.right += right
                self.seen.wrong += not right
                self.seen.seconds[f"{question.kind}, {protocol}"].append(time.monotonic() - began)
