"""Runs with made-up judged models: `evaluation.json` and what `evaluate` keeps, their metrics by other code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.artifacts import seal
from core.run_folder import Run
from models.evaluation.results import read_results, write_results
from report.files import RunFiles
from tests.contracts.kept import ranking_metrics, row_metrics
from tests.report.small_runs import files_of

GENRES = ("Comedy", "Drama", "War")
MOVIES = 60
ORIGIN = "0" * 64  # what the results were made from
SKILL = {"dlrm": 1.5, "ncf": 1.0, "mf": 0.8, "ease": 0.9, "popularity": 0.4, "biases": 0.7}
SECONDS = {"dlrm": 120.0, "ncf": 30.0, "mf": 10.0}


def judged_run(
    folder: Path,
    users: int = 40,
    ranked: Sequence[str] = ("dlrm", "ncf", "ease", "popularity"),
    scored: Sequence[str] = ("dlrm", "ncf", "biases", "popularity"),
    rated: Sequence[str] = (),
) -> RunFiles:
    """A run of so many users, each with 20 or more ratings, and the models of each protocol."""
    rng = np.random.default_rng(7)
    ratings = []
    for user in range(1, users + 1):
        for place, movie in enumerate(rng.choice(MOVIES, 20 + user % 7, replace=False)):
            day = np.datetime64("2000-01-01") + user + place * (user % 5) * 3
            ratings.append((user, 10 * (int(movie) + 1), int(rng.integers(1, 6)), str(day)))
    movies = [
        (10 * (one + 1), f"Movie {one}", 1960 + one if one else 0, GENRES[: one % 4] if one % 4 < 3 else GENRES[2:])
        for one in range(MOVIES)
    ]
    files = files_of(folder, ratings, movies)
    results = [_ranked(files, model) for model in ranked]
    results += [_scored(files, model) for model in scored]
    results += [_rated(files, model) for model in rated]
    files.run.evaluation.write_text(json.dumps(results))
    seal(files.run.judged, ORIGIN)
    stamp(files.run)
    return files


def stamp(run: Run) -> None:
    """Says beside `evaluation.json` what it was made from, as it is now."""
    write_results(run, read_results(run), ORIGIN)


def result(protocol: str, model: str, metrics: dict[str, float | None], **more: Any) -> dict[str, Any]:
    """An entry of `evaluation.json`, with made-up intervals."""
    return {
        "model": model,
        "protocol": protocol,
        "metrics": metrics,
        "ci95": {name: None if value is None else [value - 0.03, value + 0.02] for name, value in metrics.items()},
        "seed": 42,
        "epochs": 3 if model in SECONDS else 0,
        "train_seconds": SECONDS.get(model, 0.0),
        "samples_per_second": 1000 if model in SECONDS else 0,
        **more,
    }


def _keep(files: RunFiles, protocol: str, model: str, part: str, table: pd.DataFrame) -> pd.DataFrame:
    folder = files.run.kept(protocol, model)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / f"{part}.parquet", index=False)
    return table


def _last(files: RunFiles) -> pd.DataFrame:
    return files.ratings.sort_values("timestamp", kind="stable").groupby("userId").tail(1)


def _ranked(files: RunFiles, model: str) -> dict[str, Any]:
    rng = np.random.default_rng(len(model))
    last = _last(files)
    users = last["userId"].to_numpy(np.int64)
    tables = {}
    for part, others in (("sampled", 30), ("full", MOVIES - 20)):
        scores = rng.integers(0, 40, (len(last), others)).astype(float)
        positive = np.minimum(39.0, np.round(rng.random(len(last)) * 20 + 14 * SKILL[model]))
        ranks = {
            "rank": (scores >= positive[:, None]).sum(axis=1),
            "ties": (scores == positive[:, None]).sum(axis=1),
            "others": np.full(len(last), others),
        }
        table = pd.DataFrame({"user_id": users, "movie_id": last["movieId"].to_numpy(np.int64)})
        table = table.assign(**{name: counts.astype(np.int32) for name, counts in ranks.items()})
        tables[part] = _keep(files, "leave-one-out", model, part, table)
    chance = np.arange(1, MOVIES + 1.0) ** -SKILL[model]
    lists = [
        pd.DataFrame(
            {
                "user_id": user,
                "place": np.arange(10, dtype=np.int8),
                "movie_id": 10 * (1 + rng.choice(MOVIES, 10, replace=False, p=chance / chance.sum())),
                "score": np.linspace(0.9, 0.1, 10, dtype=np.float32),
            }
        )
        for user in users
    ]
    _keep(files, "leave-one-out", model, "lists", pd.concat(lists))
    full = ranking_metrics(tables["full"])
    metrics = ranking_metrics(tables["sampled"]) | {
        f"full_{name}": full[name] for name in ("hr@10", "ndcg@10", "mrr@10")
    }
    counts = {"test_users": len(users), "full_catalogue_users": len(users), "others": [30, 30]}
    return result("leave-one-out", model, {name: float(value) for name, value in metrics.items()}, **counts)


def _rows(files: RunFiles) -> pd.DataFrame:
    chosen = files.ratings[np.arange(len(files.ratings)) % 2 == 0]
    names = {"userId": "user_id", "movieId": "movie_id"}
    return chosen.rename(columns=names).astype({"user_id": "int64", "movie_id": "int64"})


def _scored(files: RunFiles, model: str) -> dict[str, Any]:
    rng = np.random.default_rng(len(model))
    rows = _rows(files)
    label = (rows["rating"] > 3).astype("float32")
    score = 1 / (1 + np.exp(-(rng.normal(size=len(rows)) + SKILL[model] * (2 * label - 1))))
    table = rows[["user_id", "movie_id", "timestamp"]].assign(label=label, score=score.astype("float32"))
    kept = _keep(files, "random-split", model, "rows", table)
    metrics = {name: float(value) for name, value in row_metrics("classification", kept).items()}
    if model == "popularity":  # which gives no probabilities
        del metrics["log_loss"], metrics["ece"]
    return result("random-split", model, metrics, test_rows=len(kept))


def _rated(files: RunFiles, model: str) -> dict[str, Any]:
    rng = np.random.default_rng(len(model))
    rows = _rows(files)
    stars = rows["rating"].astype("float32")
    score = (stars + rng.normal(size=len(rows)) / SKILL[model]).astype("float32")
    table = rows[["user_id", "movie_id", "timestamp"]].assign(label=stars, score=score)
    kept = _keep(files, "rating", model, "rows", table)
    metrics = {name: float(value) for name, value in row_metrics("rating", kept).items()}
    return result("rating", model, metrics, test_rows=len(kept))


def change(files: RunFiles, protocol: str, model: str, **changes: Any) -> RunFiles:
    """The same run with another entry in `evaluation.json`; a key of `changes` that is a dict is merged."""
    entries = json.loads(files.run.evaluation.read_text())
    for entry in entries:
        if (entry["protocol"], entry["model"]) == (protocol, model):
            for name, value in changes.items():
                entry[name] = {**entry.get(name, {}), **value} if isinstance(value, dict) else value
    files.run.evaluation.write_text(json.dumps(entries))
    stamp(files.run)
    return RunFiles(files.run)
