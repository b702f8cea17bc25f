"""What clients see while things break: faults are made under load, every answer is held against the files'.

Four clients ask `score` and `recommend` without pause, through the gRPC client that Marquee ships. Whatever is done to
the server meanwhile, each of their requests ends as right, wrong or failed. A fault is over when no request has failed
for five seconds; the seconds to recover go from the fault to the last failure.
"""

import argparse
import collections
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import psutil
import report

CLIENTS = 4
QUIET = 5.0  # seconds without a failure, after which a fault is over
LONGEST = 90.0
RECOVERED = 30.0  # seconds that a fault may last
GROWTH = 1.2  # times what the server held before a minute of load
SOAK = 60.0
PATIENCE = 5.0  # seconds that a client waits for an answer
TOLERANCE = 1e-5


@dataclass
class Seen:
    """What the clients saw during a fault."""

    right: int = 0
    wrong: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)  # when, and the error message


class Clients:
    """Threads that ask and compare."""

    def __init__(self, url: str, repositories: list[Path]):
        """
        Args:
            repositories: whose answers are right: before a switch those of one, after it those of the other.
        """
        self.url = url
        self.expected = [_questions(repository) for repository in repositories]
        self.seen = Seen()
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def take(self) -> Seen:
        """What was seen since the last call."""
        with self.lock:
            seen, self.seen = self.seen, Seen()
        return seen

    def _ask(self, number: int) -> None:
        from core.errors import UserError
        from ensemble import client

        client.TIMEOUT = PATIENCE
        rng = np.random.default_rng(number)
        while not self.stopped.is_set():
            which = int(rng.integers(len(self.expected[0])))
            kind, question = self.expected[0][which][:2]
            try:
                answer = getattr(client, kind)(self.url, *question)[:2]
                right = any(_same(kind, answer, expected[which][2]) for expected in self.expected)
                with self.lock:
                    self.seen.right += right
                    self.seen.wrong += not right
            except UserError as error:
                with self.lock:
                    self.seen.failures.append((time.monotonic(), str(error)))
                time.sleep(0.05)


def _questions(repository: Path) -> list[tuple[str, tuple[Any, ...], tuple[np.ndarray, np.ndarray]]]:
    """Questions and what the exported files answer: by batches of 1 to 50 pairs, and by users."""
    from ensemble.triton_models.recommendations import Recommendations
    from ensemble.triton_models.scores import Scores

    version = str(json.loads((repository / "manifest.json").read_text())["version"])
    scores, recommendations = (
        Scores(repository / "scorer" / version),
        Recommendations(repository / "recommend" / version),
    )
    rng = np.random.default_rng(0)
    questions: list[tuple[str, tuple[Any, ...], tuple[np.ndarray, np.ndarray]]] = []
    for number in range(200):
        pairs = 1 + number % 50
        user, movie = rng.choice(scores.users.ids, pairs), rng.choice(scores.movies.ids, pairs)
        model = ("dlrm", "ncf")[number % 2]
        questions.append(("score", (user, movie, model), scores.score(user, movie, model)))
        one = int(user[0])
        questions.append(
            ("recommend", (one, 10, (), "exact"), recommendations.recommend(one, 10, strategy="exact")[:2])
        )
    return questions


def _same(kind: str, found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> bool:
    numbers, others = (0, 1) if kind == "score" else (1, 0)
    return (
        len(found[0]) == len(expected[0])
        and bool(np.abs(found[numbers] - expected[numbers]).max() <= TOLERANCE)
        and bool((found[others] == expected[others]).all())
    )


# -- the faults --------------------------------------------------------------------------------------------------------

Fault = Callable[[Any, Path], None]


def _signal_stub(model: str, number: signal.Signals) -> Fault:
    return lambda supervisor, _: supervisor.server.stubs(model)[0].send_signal(number)


def _kill_server(supervisor: Any, _: Path) -> None:
    os.kill(supervisor.server.process.pid, signal.SIGKILL)


def _replace(repository: Path, change: Callable[[Path], None]) -> None:
    """Puts a new version of the same files, changed, in the place of the one that serves."""
    from core.json_files import read_json
    from ensemble.repository.versions import models_of, new_version

    manifest = read_json(repository / "manifest.json")
    served = str(manifest["version"])
    details = dict(manifest["releases"][served])
    with new_version(repository, details.pop("fingerprint"), None, details) as (out, version):
        for model in models_of(repository):
            shutil.copytree(repository / model / served, out / model / str(version))
            text = (repository / model / "config.pbtxt").read_text()
            text = text.replace(f"versions: [ {served} ]", f"versions: [ {version} ]")
            for config in (out / model / "config.pbtxt", out / model / str(version) / "config.pbtxt"):
                config.write_text(text)
        for folder in (out / model / str(version) for model in ("scorer", "recommend")):
            change(folder)


def _new_version(_: Any, repository: Path) -> None:
    _replace(repository, lambda folder: None)


def _wrong_version(_: Any, repository: Path) -> None:
    def spoil(folder: Path) -> None:
        for path in folder.glob("*.user.npy"):
            np.save(path, np.load(path) * 1.01)

    _replace(repository, spoil)


def _tampered_version(_: Any, repository: Path) -> None:
    _replace(repository, lambda folder: None)
    served = json.loads((repository / "manifest.json").read_text())["version"]
    with open(repository / "scorer" / str(served) / "model.py", "a") as file:
        file.write("\n")


def _rollback(_: Any, repository: Path) -> None:
    from ensemble.repository.versions import rollback

    rollback(repository)


def _bad_requests(supervisor: Any, _: Path) -> None:
    """Four clients that ask nonsense, for three seconds."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda number: _nonsense(supervisor.ports.url, number), range(CLIENTS)))


def _nonsense(url: str, number: int) -> None:
    from core.errors import UserError
    from ensemble import client

    def ask(model: str, **tensors: tuple[Any, type]) -> None:
        client.infer(url, model, [client.tensor(name, *value) for name, value in tensors.items()])

    big = np.ones(2_000_000, np.int64)
    one = np.int64
    nonsense = [
        lambda: ask("score", user_id=([1.5], np.float32), movie_id=([1], one)),
        lambda: ask("score", user_id=([float("nan")], np.float64), movie_id=([1], one)),
        lambda: ask("score", user_id=([1], one)),
        lambda: ask("score", user_id=([1, 2], one), movie_id=([1], one)),
        lambda: ask("score", user_id=([[1]], one), movie_id=([[1]], one)),
        lambda: ask("score", user_id=([1], one), movie_id=([1], one), stars=([1], one)),
        lambda: ask("score", user_id=(big, one), movie_id=(big, one)),
        lambda: ask("recommend", user_id=([1], one), k=([0], np.int32)),
        lambda: ask("recommend", user_id=([1], one), k=([-(2**31)], np.int32)),
        lambda: ask("recommend", user_id=([1], one), history=(big, one)),
        lambda: ask("similar", movie_id=([-(2**62)], one)),
    ]
    until, turn = time.monotonic() + 3, number
    while time.monotonic() < until:
        turn += 1
        try:
            nonsense[turn % len(nonsense)]()
        except UserError as error:
            if "refused" in str(error) and "Traceback" not in str(error):
                continue
        raise SystemExit(f"question {turn % len(nonsense)} was not refused as it should be")


def _vanish(supervisor: Any, _: Path) -> None:
    """Ten clients that are killed while they wait for the scores of 200,000 pairs."""
    context = multiprocessing.get_context("spawn")
    asked = [context.Process(target=_ask_much, args=(supervisor.ports.url,), daemon=True) for _ in range(10)]
    for process in asked:
        process.start()
    time.sleep(4)  # they import, connect and ask, again and again
    for process in asked:
        process.kill()
        process.join()


def _ask_much(url: str) -> None:
    from ensemble import client

    while True:
        client.infer(url, "score", [client.tensor(n, np.ones(200_000), np.int64) for n in ("user_id", "movie_id")])


def _nothing(_: Any, __: Path) -> None:
    pass


FAULTS: list[tuple[str, Fault]] = [
    ("nothing, for a minute", _nothing),
    ("four clients that ask nonsense", _bad_requests),
    ("ten clients that vanish while they wait for 200,000 scores each", _vanish),
    ("`score`'s Python process killed (SIGKILL)", _signal_stub("scorer", signal.SIGKILL)),
    ("`recommend`'s Python process killed (SIGKILL)", _signal_stub("recommend", signal.SIGKILL)),
    ("`score`'s Python process hangs (SIGSTOP)", _signal_stub("scorer", signal.SIGSTOP)),
    ("Triton killed (SIGKILL)", _kill_server),
    ("a new version", _new_version),
    ("rollback", _rollback),
    ("a new version whose scores are wrong", _wrong_version),
    ("a new version with a changed file", _tampered_version),
]


# With these no request of anybody else may fail.
SAFE = (_nothing, _bad_requests, _vanish, _new_version, _rollback, _wrong_version, _tampered_version)
HARMLESS = {name for name, fault in FAULTS if fault in SAFE}


def memory(supervisor: Any) -> float:
    """What the server and its Python processes hold, in MB: shared pages count once (PSS)."""
    server = psutil.Process(supervisor.server.process.pid)
    return sum(one.memory_full_info().pss for one in (server, *server.children(recursive=True))) / 1e6


def measure(run_folder: Path) -> list[dict[str, Any]]:
    """Every fault in turn, on one server."""
    from ensemble.server.ports import Ports, free_port
    from ensemble.server.supervisor import supervised

    found = []
    with tempfile.TemporaryDirectory() as temporary:
        repository = Path(shutil.copytree(run_folder / "repository", Path(temporary) / "repository"))
        reported: list[str] = []

        def report_event(what: str) -> None:
            reported.append(what.replace(f"{temporary}/", ""))

        log, ports = Path(temporary) / "triton.log", Ports(free_port())
        with (
            supervised(repository, log, ports, report=report_event) as supervisor,
            Clients(ports.url, [repository]) as clients,
        ):
            for name, fault in FAULTS:
                found.append(_one(name, fault, supervisor, repository, clients, reported))
                print(json.dumps(found[-1]), flush=True)
    return found


def _one(
    name: str, fault: Fault, supervisor: Any, repository: Path, clients: Clients, reported: list[str]
) -> dict[str, Any]:
    _step(supervisor, 2)
    clients.take()
    reported.clear()
    soak = fault is _nothing
    before = memory(supervisor)
    began = time.monotonic()
    fault(supervisor, repository)
    _step(supervisor, SOAK if soak else QUIET)
    seen = clients.take()
    while time.monotonic() < began + LONGEST:
        last = max((when for when, _ in seen.failures), default=began)
        switching = fault in (_new_version, _rollback, _wrong_version, _tampered_version) and not reported
        if time.monotonic() > last + QUIET and not switching:
            break
        _step(supervisor, 1)
        more = clients.take()
        seen = Seen(seen.right + more.right, seen.wrong + more.wrong, seen.failures + more.failures)
    messages = collections.Counter(message for _, message in seen.failures)
    last = max((when for when, _ in seen.failures), default=began)
    return {
        "fault": name,
        "seen": messages.most_common(1)[0][0] if messages else "nothing",
        "right": seen.right,
        "failed": len(seen.failures),
        "wrong": seen.wrong,
        "seconds_to_recover": round(last - began, 1),
        "told": list(reported),
        **({"memory_before_mb": round(before), "memory_after_mb": round(memory(supervisor))} if soak else {}),
    }


def _step(supervisor: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        supervisor.step()
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def _hold_to_bounds(found: list[dict[str, Any]]) -> None:
    """Ends with what was wrong, where an answer was, a fault lasted longer than it may, or memory grew."""
    soak = found[0]
    if soak["memory_after_mb"] > GROWTH * soak["memory_before_mb"]:
        raise SystemExit(f"memory grew from {soak['memory_before_mb']} to {soak['memory_after_mb']} MB")
    for one in found:
        if one["wrong"] or one["seconds_to_recover"] > RECOVERED or (one["failed"] and one["fault"] in HARMLESS):
            raise SystemExit(f"this should not be: {json.dumps(one)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    given = parser.parse_args()
    found = {"machine": report.machine(), "faults": measure(given.run)}
    _hold_to_bounds(found["faults"])
    report.FAULTS.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    report.write()


if __name__ == "__main__":
    main()
