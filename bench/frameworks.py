"""DLRM and NCF trained in PyTorch and, as twins, in TensorFlow, by turns: metrics, seconds, samples/s, memory.

python bench/frameworks.py              # runs/ml-100k, which needs `prepare` alone; its models are left as they are

Both start from the same weights and see the same batches; dropout differs. Each training has a process and a thread.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import inputs
import records

from core.json_files import read_json
from core.resources import read_stages
from core.run_folder import Run

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
MODELS = {"dlrm": "DLRM", "ncf": "NCF"}
METRICS = {"leave-one-out": ("full_hr@10", "full_ndcg@10"), "random-split": ("auc",)}
TITLES = {"full_hr@10": "HR@10", "full_ndcg@10": "NDCG@10", "auc": "AUC"}


def trained(prepared: Run, framework: str, seed: int) -> list[dict[str, Any]]:
    """Trains and evaluates both models in a run folder of their own: a row for each model and protocol."""
    with tempfile.TemporaryDirectory() as folder:
        run = inputs.linked(prepared, Path(folder))
        where = ("--dataset", run.root.name, "--runs", folder)
        rows = []
        for protocol in METRICS:
            for model in MODELS:
                how = ("--protocol", protocol, "--model", model, "--seed", str(seed), "--threads", "1")
                inputs.marquee("train", *where, *how, "--framework", framework)
                config = read_json(run.model(protocol, model) / "config.json")
                rows.append(
                    {
                        "model": model,
                        "protocol": protocol,
                        "framework": framework,
                        "seed": seed,
                        "epochs": config["epochs"],
                        "seconds": config["train_seconds"],
                        "samples_per_second": config["samples_per_second"],
                        "peak_mb": read_stages(run)["train"]["peak_mb"],
                    }
                )
        inputs.marquee("evaluate", *where, "--threads", "1")
        judged = {(one["protocol"], one["model"]): one["metrics"] for one in read_json(run.evaluation)}
        for row in rows:
            found = judged[row["protocol"], row["model"]]
            row["metrics"] = {name: round(found[name], 4) for name in METRICS[row["protocol"]]}
        return rows


def measure(prepared: Run, seeds: list[int]) -> dict[str, Any]:
    """Both by turns, the first for each seed by turns too."""
    rows = []
    for number, seed in enumerate(seeds):
        for framework in (list(FRAMEWORKS), list(FRAMEWORKS)[::-1])[number % 2]:
            rows += trained(prepared, framework, seed)
    return {"machine": records.machine(), "dataset": prepared.root.name, "seeds": seeds, "trainings": rows}


def table(found: dict[str, Any]) -> str:
    """A row for each model, protocol and framework: means over the seeds with their deviation, else medians."""
    lines = ["| model | question | trained in | metrics | seconds | samples/s | peak memory |", "|---" * 7 + "|"]
    for protocol, metrics in METRICS.items():
        for model, title in MODELS.items():
            for framework, name in FRAMEWORKS.items():
                rows = [
                    row
                    for row in found["trainings"]
                    if (row["protocol"], row["model"], row["framework"]) == (protocol, model, framework)
                ]
                figures = ", ".join(_figure(metric, [row["metrics"][metric] for row in rows]) for metric in metrics)
                seconds, speed, memory = (
                    median(row[key] for row in rows) for key in ("seconds", "samples_per_second", "peak_mb")
                )
                lines.append(
                    f"| {title} | {protocol} | {name} | {figures} | {seconds:,.0f} | {speed:,.0f} | {memory:,.0f} MB |"
                )
    seeds = f"Seeds {', '.join(map(str, found['seeds']))}: means (sd over them) of metrics, medians of the rest."
    return "\n".join([*lines, "", f"{seeds} {found['dataset']}, {found['machine']}, one thread."])


def _figure(metric: str, values: list[float]) -> str:
    spread = f" ({stdev(values):.3f})" if len(values) > 1 else ""
    return f"{TITLES[metric]} {mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a prepared run folder")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 42 on")
    parser.add_argument("--out", type=Path, default=records.FRAMEWORKS)
    given = parser.parse_args()
    found = measure(Run(given.run.resolve()), [inputs.SEED + number for number in range(given.seeds)])
    records.conclude(given.out, found, [])
    records.replace(records.README, "frameworks", table(found))


if __name__ == "__main__":
    main()
