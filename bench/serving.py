"""One runtime's Triton under load, in a process of its own: Marquee's, or Merlin Systems' with the same models.

Asked by `perf_analyzer`, Triton's own load generator from the tritonclient wheel, over gRPC on loopback; each client
asks again as soon as it is answered. `score` one pair at a time, by 1, 8 and 32 clients; the best ten movies of the
whole catalogue by one client, which at Merlin's means scoring every movie in one request. Random known users.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import pyarrow.parquet as pq

CLIENTS = (1, 8, 32)
SEED = 42
USERS = 500  # different questions, asked in turn
CATALOGUES = 5  # fewer, where a question names every movie
WINDOW = 3_000  # milliseconds, of which there are three
LIBRARIES = {"libb64.so.0d": "libb64-*", "libcudart.so.12": "libcudart-*"}  # that perf_analyzer's wheel leaves out


def load(url: str, model: str, questions: list[dict[str, Any]], clients: int) -> dict[str, float]:
    """Requests per second and the latency's percentiles in milliseconds.

    Args:
        questions: tensors by name, a list of values each.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        contents = [
            {name: {"content": values, "shape": [len(values)]} for name, values in question.items()}
            for question in questions
        ]
        (folder / "questions.json").write_text(json.dumps({"data": contents}, allow_nan=False))
        command = [
            *(str(Path(sys.executable).parent / "perf_analyzer"), "-m", model, "-u", url, "-i", "grpc"),
            *("--input-data", str(folder / "questions.json"), "--concurrency-range", str(clients)),
            *("--max-threads", str(clients), "--measurement-interval", str(WINDOW), "--stability-percentage", "999"),
            *("--percentile", "99", "-f", str(folder / "figures.csv")),
        ]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(_libraries())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode or not (folder / "figures.csv").is_file():
            sys.exit(f"perf_analyzer failed on {model}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        with open(folder / "figures.csv", newline="") as file:
            figures = next(csv.DictReader(file))
    return {
        "requests_per_second": float(figures["Inferences/Second"]),
        **{f"p{p}_ms": float(figures[f"p{p} latency"]) / 1000 for p in (50, 99)},
    }


def _libraries() -> Path:
    folder = inputs.WORK / "perf_analyzer"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = Path(np.__file__).parents[1] / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        if not (folder / name).exists():
            (folder / name).symlink_to(next(wheel.glob(pattern)))
    return folder


def ids(run: Any, name: str) -> np.ndarray:
    """The ids in the vocabulary, the most frequent first."""
    table = pq.read_table(run.features / "leave-one-out" / "vocabulary" / f"{name}.parquet")
    return table.filter(table["known"])[name].to_numpy()


def measure(runtime: str, run_folder: Path) -> dict[str, float]:
    """Every figure of a runtime."""
    from core.run_folder import Run

    run = Run(run_folder)
    rng = np.random.default_rng(SEED)
    users, movies = ids(run, "user_id"), ids(run, "movie_id")
    pairs = [
        {"user_id": [int(user)], "movie_id": [int(movie)]}
        for user, movie in zip(rng.choice(users, USERS), rng.choice(movies, USERS))
    ]
    figures: dict[str, float] = {}

    def note(what: str, found: dict[str, float]) -> None:
        figures.update({f"{what}_{name}": value for name, value in found.items()})

    log = inputs.WORK / f"triton-{runtime}.log"
    with serving(runtime, run, log) as server:
        for clients in CLIENTS:
            if runtime == "merlin":
                note(f"score_{clients}", load(server.url, "merlin_dlrm", pairs, clients))
            else:
                asked = [{**pair, "model": ["dlrm"]} for pair in pairs]
                note(f"score_{clients}", load(server.url, "score", asked, clients))
        people = rng.choice(users, USERS)
        if runtime == "merlin":
            whole = pq.read_table(run.features / "leave-one-out" / "vocabulary" / "movie_id.parquet")["movie_id"]
            catalogue = whole.to_pylist()
            questions = [
                {"user_id": [int(user)] * len(catalogue), "movie_id": catalogue} for user in people[:CATALOGUES]
            ]
            note("catalogue", load(server.url, "merlin_dlrm", questions, 1))
        else:
            for strategy in ("exact", "two-stage"):
                asked = [{"user_id": [int(user)], "k": [10], "strategy": [strategy]} for user in people]
                note(strategy, load(server.url, "recommend", asked, 1))
            manifest = json.loads((run.repository / "manifest.json").read_text())
            figures |= {"recall": manifest["recall@10"], "exact_recall": 1.0, "movies": len(ids(run, "movie_id"))}
    return figures


def serving(runtime: str, run: Any, log: Path) -> AbstractContextManager[Any]:
    """What clients ask: `serve` with its front door; Merlin Systems' runtime has none."""
    from served import served

    return direct(runtime, run, log) if runtime == "merlin" else served(run.repository, inputs.WORK / "serve")


def direct(runtime: str, run: Any, log: Path) -> AbstractContextManager[Any]:
    """A running Triton of the runtime, without a front door."""
    from ensemble.merlin_systems.server import running_merlin
    from ensemble.server.ports import Ports, free_port
    from ensemble.server.process import running
    from models.registry import compared

    if runtime == "merlin":
        return running_merlin(run.reference_repository, log, free_port(), compared())
    return running(run.repository, log, Ports(free_port()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime", choices=("marquee", "merlin"))
    parser.add_argument("--run", type=Path, required=True, help="a run folder with both repositories")
    parser.add_argument("--threads", type=int, default=2, help="taken for the other benchmarks' sake; a model has one")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.write_text(
        json.dumps(measure(given.runtime, given.run), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
