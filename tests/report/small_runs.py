"""Runs that are small enough to reckon by hand what a picture of them must show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.run_folder import Run
from report.files import RunFiles

# Dollars and underscores, which matplotlib may read as a formula, a letter beyond ASCII, and a name that a font lacks.
STRANGE = "Amélie $5_a for $9_b"
MOVIES = (
    (10, STRANGE, 1994, ["Comedy", "Drama"]),
    (20, "Night, The", 1999, ["Drama"]),
    (30, "4th Night of the Day", 2001, ["Comedy"]),
    (40, "Unknown", 0, []),
    (50, "Never Rated", 1950, ["Western"]),
)
RATINGS = (
    (1, 10, 5, "2000-01-15"),
    (1, 20, 4, "2000-01-20"),
    (1, 30, 3, "2000-03-01"),
    (1, 40, 5, "2000-03-02"),
    (2, 10, 5, "2000-03-03"),
    (2, 20, 2, "2000-03-04"),
    (3, 10, 1, "2000-03-05"),
    (3, 30, 4, "2000-03-31"),
)


def files_of(folder: Path, ratings: Any = RATINGS, movies: Any = MOVIES) -> RunFiles:
    """A run with tables only."""
    run = Run(folder / "ml-100k")
    run.tables.mkdir(parents=True)
    user, movie, stars, day = zip(*ratings)
    times = np.array(day, dtype="datetime64[s]").astype(np.int64)
    types = {"userId": "int32", "movieId": "int32", "rating": "float32", "timestamp": "int64"}
    table = pd.DataFrame(dict(zip(types, (user, movie, stars, times)))).astype(types)
    table.to_parquet(run.tables / "ratings.parquet")
    columns = ("movieId", "title", "year", "genres")
    described = pd.DataFrame(movies, columns=columns).astype({"movieId": "int32", "year": "int16"})
    described.to_parquet(run.tables / "movies.parquet")
    return RunFiles(run)


def add_network(files: RunFiles, protocol: str, model: str, history: list[dict[str, Any]], **config: Any) -> None:
    """Writes what training leaves that pictures read.

    Args:
        history: loss and metrics of each epoch; numbers, samples and seconds are added.
        config: `best_epoch` and `monitor`, and what differs from seed 42 and training on train and validation rows.
    """
    folder = files.run.model(protocol, model)
    folder.mkdir(parents=True)
    rows = [{"epoch": 1 + place, "samples": 10, "seconds": 0.5, **row} for place, row in enumerate(history)]
    (folder / "history.json").write_text(json.dumps(rows))
    about = {"model": model, "seed": 42, "epochs": len(rows), "trained_on": ["train", "valid"], **config}
    (folder / "config.json").write_text(json.dumps(about))


def learned_files(folder: Path) -> RunFiles:
    """A run with tables, and with networks of one protocol."""
    files = files_of(folder)
    first = [(0.6, 0.70, 0.61), (0.5, 0.80, 0.55), (0.4, 0.79, 0.50)]
    second = [(0.7, 0.65, 0.66), (0.6, 0.66, 0.64)]
    for model, rows, best in (("dlrm", first, 2), ("ncf", second, 2)):
        history = [dict(zip(("train_loss", "auc", "log_loss"), row)) for row in rows]
        add_network(files, "random-split", model, history, best_epoch=best, monitor="auc")
    return files
