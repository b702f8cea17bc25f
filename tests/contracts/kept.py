"""What holds for the files that `evaluate` keeps of any judged model, of whichever protocol: see `assert_kept`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from core.run_folder import Run
from models.evaluation.results import Result
from models.protocols.base import PROTOCOLS

RANKS = {"user_id": "int64", "movie_id": "int64", "rank": "int32", "ties": "int32", "others": "int32"}
COLUMNS = {
    "sampled": RANKS,
    "full": RANKS,
    "lists": {"user_id": "int64", "movie_id": "int64", "place": "int8", "score": "float32"},
    "rows": {"user_id": "int64", "movie_id": "int64", "timestamp": "int64", "label": "float32", "score": "float32"},
}
TABLES = {"ranking": {"sampled", "full", "lists"}, "classification": {"rows"}, "rating": {"rows"}}
K = 10


def ranking_metrics(ranks: pd.DataFrame) -> dict[str, float]:
    """The mean over users of HR@10, NDCG@10, MRR@10 and the share of the others that score below, a tie a half."""
    hit = ranks["rank"] < K
    rank = ranks["rank"][hit].astype(float)
    below = ranks["others"] - ranks["rank"] + ranks["ties"] / 2
    return {
        "hr@10": hit.mean(),
        "ndcg@10": (1 / np.log2(rank + 2)).sum() / len(ranks),
        "mrr@10": (1 / (rank + 1)).sum() / len(ranks),
        "auc": (below / ranks["others"]).mean(),
    }


def row_metrics(task: str, rows: pd.DataFrame) -> dict[str, float]:
    """The metrics of a task as scikit-learn has them."""
    label, score = rows["label"].to_numpy(float), rows["score"].to_numpy(float)
    if task == "rating":
        return {"rmse": mean_squared_error(label, score) ** 0.5, "mae": mean_absolute_error(label, score)}
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    starts = np.unique(np.sort(score)[[place * len(score) // 15 for place in range(15)]])
    bins = pd.DataFrame({"label": label, "score": score}).groupby(np.digitize(score, starts)).sum()
    gap = (bins["score"] - bins["label"]).abs().sum() / len(score)
    return {"auc": roc_auc_score(label, score), "log_loss": log_loss(label, clipped), "ece": gap}


def metrics_of_files(folder: Path, task: str) -> dict[str, float]:
    """Every metric, from the kept files alone."""
    if (folder / "rows.parquet").is_file():
        return row_metrics(task, pd.read_parquet(folder / "rows.parquet"))
    full = ranking_metrics(pd.read_parquet(folder / "full.parquet"))
    sampled = ranking_metrics(pd.read_parquet(folder / "sampled.parquet"))
    return sampled | {f"full_{name}": full[name] for name in ("hr@10", "ndcg@10", "mrr@10")}


def assert_kept(run: Run, folder: Path, result: Result) -> None:
    """The kept files of a model are what its result says, and are about the run's own users and movies.

    Args:
        folder: with the files.
    """
    protocol = PROTOCOLS[result.protocol]
    found = {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}
    assert found.keys() == TABLES[protocol.task]
    assert len(list(folder.iterdir())) == len(found)
    of_known = {"known": "bool"} if result.known_users is not None else {}
    for name, table in found.items():
        expected = {**COLUMNS[name], **(of_known if name == "full" else {})}
        assert {field.name: str(field.type).replace("float", "float32") for field in table.schema} == expected
        assert int(table.schema.metadata[b"rows"]) == len(table)
        assert not any(column.null_count for column in table.columns)
    metrics = metrics_of_files(folder, protocol.task)
    for name in metrics.keys() & result.metrics.keys():
        assert metrics[name] == pytest.approx(result.metrics[name], abs=1e-9), name
    assert {name for name in metrics if name not in result.metrics} <= {
        "log_loss",
        "ece",
    }  # of what is not a probability
    tables = {name: table.to_pandas() for name, table in found.items()}
    if "rows" in tables:
        assert len(tables["rows"]) == result.test_rows
        _assert_rows_are_of_the_test(run, protocol.split, tables["rows"])
    else:
        counts = {"sampled": result.test_users, "full": result.full_catalogue_users}
        assert {name: len(tables[name]) for name in counts} == counts
        _assert_lists_go_with_ranks(run, protocol.split, tables["full"], tables["lists"])


def rows_of(run: Run, split: str, *parts: str) -> pd.DataFrame:
    """The ratings of some parts of a split, with MovieLens' ids, in the order of the files."""
    folder = run.features_of(split)
    rows = pd.concat([pd.read_parquet(path) for part in parts for path in sorted((folder / part).glob("*.parquet"))])
    for name in ("user", "movie"):
        known = pd.read_parquet(folder / "vocabulary" / f"{name}_id.parquet").set_index("index")[f"{name}_id"]
        rows[f"{name}_id"] = known[rows[f"{name}_index"]].to_numpy()
    return rows.reset_index(drop=True)


def _assert_rows_are_of_the_test(run: Run, split: str, rows: pd.DataFrame) -> None:
    """In the order of the test rows, and as they stand in the ratings table."""
    names = ["user_id", "movie_id", "timestamp"]
    pd.testing.assert_frame_equal(rows[names], rows_of(run, split, "test")[names])
    ratings = pd.read_parquet(run.tables / "ratings.parquet").rename(
        columns={"userId": "user_id", "movieId": "movie_id"}
    )
    assert len(rows.merge(ratings, on=names)) == len(rows)


def _assert_lists_go_with_ranks(run: Run, split: str, full: pd.DataFrame, lists: pd.DataFrame) -> None:
    """Ten movies of each user, best first, none of them rated before; the held-out one is where its rank says."""
    assert lists["user_id"].tolist() == full["user_id"].repeat(K).tolist()
    assert lists["place"].tolist() == list(range(K)) * len(full)
    scores = lists["score"].to_numpy().reshape(-1, K)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert not lists.duplicated(["user_id", "movie_id"]).any()
    before = rows_of(run, split, "train", "valid")[["user_id", "movie_id"]]
    assert lists.merge(before, on=["user_id", "movie_id"]).empty
    rated = pd.read_parquet(run.tables / "ratings.parquet")["movieId"]
    assert lists["movie_id"].isin(rated).all()
    place = full.merge(lists, on=["user_id", "movie_id"], how="left")["place"].to_numpy()
    listed = ~np.isnan(place)
    rank, ties = full["rank"].to_numpy(), full["ties"].to_numpy()
    assert (ties <= rank).all()
    assert listed[rank < K].all()
    assert (rank - ties < K)[listed].all()
    assert ((rank - ties)[listed] <= place[listed]).all()
    assert (place[listed] <= rank[listed]).all()
