"""What `history` is worth: people whom training never saw, asked by what they liked, against popularity.

A fifth of a dataset's people is taken out before anything else. DLRM, NCF and SASRec are then prepared, trained and
exported from the rest by the shipped commands with their defaults. Each person taken out lists the movies that they
gave more than three stars, all but their last rating, the latest last, at most 50; the answer holds their last rating
or not (HR@10 and NDCG@10 over the whole catalogue). Popularity leaves out the same movies.

    python bench/newcomers.py --dataset ml-100k
    python bench/newcomers.py --dataset ml-latest-small --data FOLDER
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import pandas as pd
import records
from inputs import WORK

TAKEN_OUT = 0.2
LISTED = 50
LIKED_ABOVE = 3
K = 10
SEED = 42
METRICS = ("hr@10", "ndcg@10")
MODELS = ("dlrm", "ncf", "sasrec")


def without(tables: Path, folder: Path) -> pd.DataFrame:
    """Writes the dataset without a fifth of its people as CSV files, and gives the ratings of those."""
    ratings = pd.read_parquet(tables / "ratings.parquet")
    movies = pd.read_parquet(tables / "movies.parquet")
    people = np.unique(ratings["userId"])
    out = np.random.default_rng(SEED).permutation(people)[: round(TAKEN_OUT * len(people))]
    folder.mkdir(parents=True)
    taken = ratings["userId"].isin(out)
    ratings[~taken].to_csv(folder / "ratings.csv", index=False)
    years = movies["year"].map(lambda year: f" ({year})" if year else "")
    movies.assign(title=movies["title"] + years, genres=movies["genres"].map("|".join))[
        ["movieId", "title", "genres"]
    ].replace({"genres": {"": "(no genres listed)"}}).to_csv(folder / "movies.csv", index=False)
    return ratings[taken]


def judge(recommendations: Any, newcomers: pd.DataFrame) -> dict[str, np.ndarray]:
    """HR@10 and NDCG@10 of each newcomer, by history and by popularity: float64 [people] by name."""
    found: dict[str, list[float]] = {f"{who} {metric}": [] for who in ("history", "popularity") for metric in METRICS}
    for _, rows in newcomers.sort_values(["userId", "timestamp"], kind="stable").groupby("userId"):
        movies, stars = rows["movieId"].to_numpy(), rows["rating"].to_numpy()
        last, before = movies[-1], movies[:-1]
        history = before[stars[:-1] > LIKED_ABOVE][-LISTED:].astype(np.int64)
        if not len(history):
            continue
        known = recommendations.movies(history)[0] != recommendations.movies.unknown
        popular = recommendations.movies.ids[~np.isin(recommendations.movies.ids, history)][:K]  # the most rated first
        answers = {"popularity": popular, "history": recommendations.recommend(-1, K, history, "exact")[0]}
        if not known.any():
            continue
        for who, answer in answers.items():
            place = np.flatnonzero(answer == last)
            found[f"{who} hr@10"].append(float(len(place) > 0))
            found[f"{who} ndcg@10"].append(float(1 / np.log2(place[0] + 2)) if len(place) else 0.0)
    return {name: np.array(values) for name, values in found.items()}


def measure(dataset: str, data: Path | None) -> dict[str, Any]:
    """Takes people out, runs the pipeline without them, and asks for them."""
    from ensemble.triton_models.recommendations import Recommendations
    from models.evaluation.paired import paired_difference

    work = WORK / "newcomers" / dataset
    shutil.rmtree(work, ignore_errors=True)
    inputs.marquee("fetch", "--dataset", dataset, "--runs", str(work / "all"), *(["--data", str(data)] if data else []))
    newcomers = without(work / "all" / dataset / "tables", work / "csv")
    where = ("--dataset", "ml-latest-small", "--runs", str(work / "rest"))
    inputs.marquee("fetch", *where, "--data", str(work / "csv"))
    inputs.marquee("prepare", *where, "--seed", str(SEED))
    for model in MODELS:
        inputs.marquee("train", *where, "--protocol", "leave-one-out", "--model", model, "--seed", str(SEED))
    result: dict[str, Any] = {"dataset": dataset, "seed": SEED, "taken_out": TAKEN_OUT, "models": {}}
    for model in MODELS:
        inputs.marquee("export", *where, "--default-model", model)
        repository = work / "rest" / "ml-latest-small" / "repository"
        version = json.loads((repository / "manifest.json").read_text())["version"]
        judged = judge(Recommendations(repository / "recommend" / str(version)), newcomers)
        result["people"] = len(judged["history hr@10"])
        figures = {}
        for metric in METRICS:
            one, other = judged[f"history {metric}"], judged[f"popularity {metric}"]
            difference = paired_difference(one, other, SEED)
            figures[metric] = {
                "history": one.mean(),
                "popularity": other.mean(),
                "margin": difference.value,
                "margin_95": [difference.low, difference.high],
                "p_value": difference.p_value,
            }
        result["models"][model] = figures
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    others = json.loads(records.NEWCOMERS.read_text()) if records.NEWCOMERS.is_file() else []
    others = [result for result in others if result["dataset"] != given.dataset]
    found = measure(given.dataset, given.data)
    records.NEWCOMERS.write_text(json.dumps([*others, found], indent=2, allow_nan=False) + "\n", encoding="utf-8")
    records.write()


if __name__ == "__main__":
    main()
