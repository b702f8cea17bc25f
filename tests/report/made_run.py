"""A run folder with all that a report reads, made up in a second: nothing is trained or scored."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import read_manifest, seal
from core.json_files import write_json
from core.run_folder import Run
from models.evaluation.results import Result, model_digest, write_results
from models.training.train import TrainedConfig
from tests.names import DEFAULT_PROTOCOLS, NETWORKS

USERS, MOVIES, ROWS = 40, 30, 600
METRICS = {
    "leave-one-out": ("hr@10", "ndcg@10", "mrr@10", "auc", "full_hr@10", "full_ndcg@10", "full_mrr@10"),
    "random-split": ("auc", "log_loss"),
}
MODELS = (*NETWORKS, "popularity")
VERSIONS = {"torch": "2.0", "numpy": "1.23.5"}
ORIGIN = "0" * 64


def made_run(folder: Path, dataset: str = "ml-latest-small", seed: int = 42) -> Run:
    """Both default protocols, three networks and popularity."""
    run = Run(folder / dataset)
    rng = np.random.default_rng(seed)
    write_tables(run, rng)
    results, digests = [], {}
    for protocol in DEFAULT_PROTOCOLS:
        for place, model in enumerate(MODELS):
            results.append(result(protocol, model, place, seed))
            write_kept(run, protocol, model, place, np.random.default_rng(seed))
            if model in NETWORKS:
                digests[f"{protocol}/{model}"] = write_network(run, protocol, model, seed)
    seal(run.judged, ORIGIN)
    write_results(run, results, ORIGIN, digests)
    return run


def result(protocol: str, model: str, place: int, seed: int) -> Result:
    """Other figures for each model and metric; popularity's log loss is undefined, as it gives no probabilities."""
    metrics: dict[str, float | None] = {
        name: 0.6 + 0.031_234_567 * number - 0.047_654_321 * place for number, name in enumerate(METRICS[protocol])
    }
    if model == "popularity":
        metrics.pop("log_loss", None)
    is_network = model in NETWORKS
    return Result(
        model=model,
        protocol=protocol,
        metrics=metrics,
        ci95={name: (value - 0.021_111, value + 0.022_222) for name, value in metrics.items() if value is not None},
        seed=seed,
        epochs=3 if is_network else 0,
        train_seconds=12.5 if is_network else 0.0,
        samples_per_second=900 if is_network else 0,
        **(
            {"test_users": USERS, "full_catalogue_users": USERS} if protocol == "leave-one-out" else {"test_rows": ROWS}
        ),
        others=(99, 99) if protocol == "leave-one-out" else None,
        versions=VERSIONS,
        stages={"fetch": {"seconds": 0.61, "peak_mb": 153.0}, "train": {"seconds": 1234.5, "peak_mb": 1231.0}},
    )


def write_tables(run: Run, rng: np.random.Generator) -> None:
    run.tables.mkdir(parents=True)
    user, movie = np.divmod(np.arange(USERS * MOVIES), MOVIES)
    ratings = {
        "userId": user.astype(np.int32) + 1,
        "movieId": movie.astype(np.int32) + 1,
        "rating": rng.integers(1, 6, len(user)).astype(np.float32),
        "timestamp": 900_000_000 + np.arange(len(user), dtype=np.int64) * 86_400,
    }
    movies = {
        "movieId": np.arange(1, MOVIES + 1, dtype=np.int32),
        "title": [f"Movie <b>{number}</b> & \"friends\" ('$5$')" for number in range(MOVIES)],
        "year": np.full(MOVIES, 1990, np.int16),
        "genres": [["Drama"]] * MOVIES,
    }
    for name, columns in {"ratings": ratings, "movies": movies, "users": {"userId": np.arange(1, USERS + 1)}}.items():
        pq.write_table(pa.table(columns), run.tables / f"{name}.parquet")
    seal(run.tables, ORIGIN, dataset=run.root.name)


def write_kept(run: Run, protocol: str, model: str, place: int, rng: np.random.Generator) -> None:
    """Ranks that get worse from model to model, and scores that say less."""
    folder = run.kept(protocol, model)
    folder.mkdir(parents=True)
    user, movie = np.arange(1, USERS + 1), np.full(USERS, 7)
    if protocol == "leave-one-out":
        rank = (rng.integers(0, 9, USERS) + 4 * place).astype(np.int32)
        standing = {"rank": rank, "ties": np.zeros(USERS, np.int32), "others": np.full(USERS, 99, np.int32)}
        for part in ("sampled", "full"):
            pq.write_table(pa.table({"user_id": user, "movie_id": movie, **standing}), folder / f"{part}.parquet")
        lists = {
            "user_id": np.repeat(user, 10),
            "place": np.tile(np.arange(10, dtype=np.int8), USERS),
            "movie_id": np.tile(np.arange(1, 11) + place, USERS),
            "score": np.tile(np.linspace(1, 0, 10, dtype=np.float32), USERS),
        }
        pq.write_table(pa.table(lists), folder / "lists.parquet")
        return
    label = (rng.random(ROWS) < 0.5).astype(np.float32)
    score = 1 / (1 + np.exp(-(label - 0.5) * (3 - place) - rng.normal(size=ROWS)))
    rows = {
        "user_id": np.arange(ROWS) % USERS + 1,
        "movie_id": np.arange(ROWS) % MOVIES + 1,
        "timestamp": 900_000_000 + np.arange(ROWS),
        "label": label,
        "score": score.astype(np.float32),
    }
    table = pa.table(rows).replace_schema_metadata({"rows": str(ROWS)})
    pq.write_table(table, folder / "rows.parquet")


def write_network(run: Run, protocol: str, model: str, seed: int) -> str:
    """`config.json` and `history.json`; returns what stands for the network in the evaluation's stamp."""
    folder = run.model(protocol, model)
    folder.mkdir(parents=True)
    monitor = "ndcg@10" if protocol == "leave-one-out" else "auc"
    config = TrainedConfig(
        format=2,
        model=model,
        protocol=protocol,
        dataset=run.root.name,
        settings=settings(seed),
        seed=seed,
        epochs=3,
        best_epoch=2,
        monitor=monitor,
        validation={"train_loss": 0.5, monitor: 0.61},
        trained_on=["train", "valid"],
        train_seconds=12.5,
        samples_per_second=900,
        weights=73_417,
        device="CPU, 2 cores",
        threads=1,
        versions=VERSIONS,
    )
    write_json(folder / "config.json", asdict(config))
    epochs = [{"epoch": n, "train_loss": 1 / n, "samples": 100.0, monitor: 0.6 + n % 3 / 100} for n in (1, 2, 3)]
    write_json(folder / "history.json", epochs)
    seal(folder, ORIGIN)
    return model_digest(read_manifest(folder)["files"])


def settings(seed: int) -> dict[str, Any]:
    return {
        "network": {"dim": 16, "top": [32, 16]},
        "learning_rate": 0.0030425733547976602,
        "refit": True,
        "seed": seed,
    }
