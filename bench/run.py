"""`make bench`: every comparison, in alternating runs; writes results.json and the tables and picture of README.md.

Each peer has an environment of its own, made from `peers/*.txt`. A round runs each side once, one after the other, so
that a machine whose speed drifts treats them alike; figures are medians over the rounds, ratios medians of the rounds'
ratios. Both sides get the same two threads.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inputs
import records
from inputs import ROOT, WORK

BENCH = ROOT / "bench"
PEERS = BENCH / "peers"
SCALE = 1.0
FIFTH = 0.2  # where a peer would take longer for all of it than everything else together
SCALES = (1 / 25, 1 / 5, 1.0)
BATCH = 16_384
SAMPLES = 6_000_000
POOLS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
TASK_SECONDS = 3_000


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a name for people, and a command that writes figures to the file it is given."""

    name: str
    command: Callable[[Path], list[str]]


@dataclass(frozen=True)
class Comparison:
    """Which figure of two sides is compared, of sides that run in the same rounds.

    `of_ours` and `of_theirs` are the names of the figures; the more the better, but for the units in `records.LESS`.
    """

    what: str
    unit: str
    ours: str
    theirs: str
    of_ours: str
    of_theirs: str
    peer: str = ""  # in words, where the side's name does not say it


@dataclass(frozen=True)
class Group:
    """Sides that take turns, and what is read from them."""

    scale: float
    sides: dict[str, Side]
    comparisons: tuple[Comparison, ...]
    rounds: int | None = None  # where another round gives the same figures
    needs: str = "peers"  # what `inputs.py` makes for it


def python(name: str) -> str:
    """The interpreter of a peer's environment, made from its requirements if it is not there or they changed."""
    requirements = PEERS / f"{name}.txt"
    folder, wanted = WORK / "environments" / name, hashlib.sha256(requirements.read_bytes()).hexdigest()
    ready = folder / "ready"
    if not ready.is_file() or ready.read_text() != wanted:
        print(f"making {name}'s environment", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        ready.write_text(wanted)
    return str(folder / "bin" / "python")


def ours(name: str, scale: float, *arguments: str) -> Side:
    run = WORK / "runs" / inputs.dataset(scale)
    start = [sys.executable, str(BENCH / "ours.py"), *arguments, "--run", str(run)]
    return Side(name, lambda out: [*start, "--out", str(out)])


def trained(model: str, scale: float, variant: str = "shipped") -> Side:
    name = "Marquee" if variant == "shipped" else f"Marquee, {variant}"
    arguments = ("--model", model, "--variant", variant, "--batch-size", str(BATCH), "--samples", str(SAMPLES))
    return ours(name, scale, "train", *arguments)


def trainer(name: str, environment: str, script: str, model: str, scale: float, *more: str) -> Side:
    data = WORK / "peers" / inputs.dataset(scale)
    arguments = ["--data", str(data), "--model", model, "--batch-size", str(BATCH), "--samples", str(SAMPLES), *more]
    return Side(name, lambda out: [python(environment), str(PEERS / script), *arguments, "--out", str(out)])


def etl(name: str, environment: str, script: str, scale: float) -> Side:
    folders = ["--raw", str(inputs.WORK / "data" / inputs.dataset(scale)), "--out-folder", str(WORK / "etl-peer")]
    return Side(name, lambda out: [python(environment), str(PEERS / script), *folders, "--out", str(out)])


def samples(what: str, theirs: str, mine: str = "ours") -> Comparison:
    return Comparison(what, "samples/s", mine, theirs, "samples_per_second", "samples_per_second")


def memory(what: str, theirs: str) -> Comparison:
    return Comparison(f"{what}, peak memory", "MB", "ours", theirs, "peak_mb", "peak_mb")


TENSORFLOW = "Merlin Models, TensorFlow `fit`"
DLRM = Group(
    SCALE,
    {
        "ours": trained("dlrm", SCALE),
        "tensorflow": trainer(TENSORFLOW, "merlin", "merlin_tensorflow.py", "dlrm", SCALE),
        "lightning": trainer("Merlin Models, PyTorch, Lightning", "merlin", "merlin_lightning.py", "dlrm", SCALE),
        **{variant: trained("dlrm", SCALE, variant) for variant in ("dense", "float32")},
    },
    (
        samples("DLRM training", "tensorflow"),
        samples("DLRM training", "lightning"),
        samples("DLRM training in float32", "tensorflow", "float32"),
        samples("DLRM training in float32", "lightning", "float32"),
        samples("DLRM training, row-wise against dense updates", "dense"),
        samples("DLRM training, bfloat16 against float32", "float32"),
        memory("DLRM training", "tensorflow"),
        memory("DLRM training", "lightning"),
    ),
)
NCF = Group(
    SCALE,
    {
        "ours": trained("ncf", SCALE),
        "tensorflow": trainer(TENSORFLOW, "merlin", "merlin_tensorflow.py", "ncf", SCALE),
        "float32": trained("ncf", SCALE, "float32"),
    },
    (
        samples("NCF training", "tensorflow"),
        samples("NCF training in float32", "tensorflow", "float32"),
        samples("NCF training, bfloat16 against float32", "float32"),
        memory("NCF training", "tensorflow"),
    ),
)
FLOOR = Group(
    SCALE,
    {
        f"{model} {variant}": trained(model, SCALE, variant)
        for model in ("dlrm", "ncf")
        for variant in ("shipped", "floor", "frozen")
    },
    tuple(
        samples(f"{model.upper()} training, share of {what}", f"{model} {variant}", f"{model} shipped")
        for model in ("dlrm", "ncf")
        for variant, what in (("floor", "the floor"), ("frozen", "a step with frozen tables"))
    ),
)
RECBOLE = Group(
    FIFTH,
    {
        "ours": trained("ncf", FIFTH),
        "recbole": trainer(
            *("RecBole, NeuMF", "recbole", "recbole_neumf.py", "ncf", FIFTH),
            *("--eval-users", str(inputs.EVALUATION_USERS)),
        ),
        "evaluation": ours("Marquee", FIFTH, "evaluate"),
    },
    (
        samples("NCF training", "recbole"),
        memory("NCF training", "recbole"),
        Comparison("NCF evaluation", "users/s", "evaluation", "recbole", "users_per_second", "users_per_second"),
    ),
)
ROWS, WHOLE = "rows_per_second", "ETL, the whole of prepare with split and folds"
ETL = Group(
    FIFTH,
    {
        "ours": ours("Marquee", FIFTH, "etl"),
        "notebook": etl("NVTabular, the notebooks' recipe", "merlin", "notebook_etl.py", FIFTH),
        "polars": etl("polars, the same work", "polars", "polars_etl.py", FIFTH),
    },
    (
        Comparison("ETL: fit, join or side tables, transform", "rows/s", "ours", "notebook", f"same_work_{ROWS}", ROWS),
        Comparison(WHOLE, "rows/s", "ours", "notebook", ROWS, ROWS),
        Comparison(WHOLE, "rows/s", "ours", "polars", ROWS, ROWS),
        memory("ETL", "notebook"),
        memory("ETL", "polars"),
    ),
)
DENSE = "this loop, Adam on all weights, float32"
ACCURACY = Group(
    FIFTH,
    {
        f"{model} {variant}": ours(
            *("Marquee" if variant == "shipped" else DENSE, FIFTH, "accuracy"),
            *("--model", model, "--variant", variant),
        )
        for model in ("dlrm", "ncf")
        for variant in ("shipped", "dense-float32")
    },
    tuple(
        Comparison(
            f"{model.upper()}, validation after one epoch",
            metric,
            f"{model} shipped",
            f"{model} dense-float32",
            *["metric"] * 2,
        )
        for model, metric in (("dlrm", "AUC"), ("ncf", "NDCG@10"))
    ),
    rounds=1,
)
MERLIN = "Merlin Systems, same DLRM"


def served(runtime: str, name: str) -> Side:
    run = WORK / "runs" / inputs.dataset(SCALE)
    start = [sys.executable, str(BENCH / "serving.py"), runtime, "--run", str(run)]
    return Side(name, lambda out: [*start, "--out", str(out)])


def percentiles(what: str, mine: str, theirs: str, of_theirs: str, peer: str = "") -> list[Comparison]:
    figures = ("p50_ms", "p99_ms")
    return [
        Comparison(f"{what}, {figure[:3]}", "ms", "ours", theirs, f"{mine}_{figure}", f"{of_theirs}_{figure}", peer)
        for figure in figures
    ]


SERVING = Group(
    SCALE,
    {"ours": served("marquee", "Marquee"), "merlin": served("merlin", MERLIN)},
    (
        *(
            comparison
            for clients in (1, 8, 32)
            for what in (f"score, one pair, {clients} client{'s' if clients > 1 else ''}",)
            for comparison in (
                Comparison(what, "requests/s", "ours", "merlin", *[f"score_{clients}_requests_per_second"] * 2),
                *percentiles(what, f"score_{clients}", "merlin", f"score_{clients}"),
            )
        ),
        *percentiles("recommend, exact, all movies, 1 client", "exact", "merlin", "catalogue"),
        *percentiles("recommend, two-stage, all movies, 1 client", "two-stage", "ours", "exact", "Marquee, exact"),
        Comparison(
            "recommend, two-stage, 500 candidates",
            "recall@10",
            "ours",
            "ours",
            "recall",
            "exact_recall",
            "Marquee, exact",
        ),
    ),
    needs="served",
)
GROUPS = {
    "serving": SERVING,
    "dlrm": DLRM,
    "ncf": NCF,
    "floor": FLOOR,
    "recbole": RECBOLE,
    "etl": ETL,
    "accuracy": ACCURACY,
}

SCRIPTS = ("newcomers", "side_by_side", "front_door", "starvation", "faults", "storm", "soak")  # on runs/ml-100k


def measure(group: Group, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Runs the sides of a group in turn and compares them."""
    figures: dict[str, list[dict[str, Any]]] = {key: [] for key in group.sides}
    pools = dict.fromkeys(POOLS, str(threads))
    out = WORK / "figures.json"
    for number in range(1, rounds + 1):
        for key, side in group.sides.items():
            out.unlink(missing_ok=True)
            command = [*side.command(out), "--threads", str(threads)]
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **pools}, capture_output=True, text=True, timeout=TASK_SECONDS
            )
            if done.returncode:
                sys.exit(f"{side.name} failed: {' '.join(command)}\n{done.stderr[-2000:]}")
            figures[key].append(json.loads(out.read_text()))
            speeds = {k: round(v) for k, v in figures[key][-1].items() if k.endswith(("_second", "_mb", "_ms"))}
            print(f"round {number}, {side.name} ({key}): {speeds}", flush=True)
    shutil.rmtree(WORK / "etl-peer", ignore_errors=True)
    return [_compared(group, comparison, figures) for comparison in group.comparisons]


def _compared(group: Group, which: Comparison, figures: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    mine = [figure[which.of_ours] for figure in figures[which.ours]]
    theirs = [figure[which.of_theirs] for figure in figures[which.theirs]]
    less_is_better = which.unit in records.LESS
    ratios = [t / m if less_is_better else m / t for m, t in zip(mine, theirs)]
    return {
        "what": which.what,
        "unit": which.unit,
        "ours": statistics.median(mine),
        "peer": which.peer or group.sides[which.theirs].name,
        "theirs": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "runs": len(ratios),
        "scale": group.scale,
        "ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only",
        nargs="*",
        choices=[*GROUPS, "scaling", *SCRIPTS],
        help="these alone",
    )
    given = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    wanted = given.only or [*GROUPS, "scaling", *SCRIPTS]
    for scale, needs in sorted({(GROUPS[name].scale, GROUPS[name].needs) for name in wanted if name in GROUPS}):
        # Not in this process: what it holds at its highest would be taken for the peak of all that it starts.
        subprocess.run([sys.executable, str(BENCH / "inputs.py"), needs, str(scale)], cwd=ROOT, check=True)
    for name in wanted:
        if name in GROUPS:
            group = GROUPS[name]
            records.keep(name, measure(group, group.rounds or given.rounds, given.threads))
    if "scaling" in wanted:
        records.keep_scaling([whole_pipeline(scale) for scale in SCALES])
    for script in SCRIPTS:
        if script in wanted:
            subprocess.run([sys.executable, str(BENCH / f"{script}.py")], cwd=ROOT, check=True)
    records.write()


def whole_pipeline(scale: float) -> dict[str, Any]:
    """Fetch to exported repository, both models, both protocols, one epoch each, in one command."""
    runs = WORK / "whole-pipeline"
    shutil.rmtree(runs, ignore_errors=True)
    folder = inputs.raw(scale)
    inputs.marquee(
        "run", "--dataset", inputs.dataset(scale), "--data", str(folder), "--runs", str(runs), "--epochs", "1"
    )
    results = json.loads((runs / inputs.dataset(scale) / "evaluation.json").read_text())
    ratings = json.loads((folder / "synth.json").read_text())["counts"]["ratings"]
    models = [
        {key: result[key] for key in ("model", "protocol", "metrics", "samples_per_second", "train_seconds")}
        for result in results
    ]
    return {"scale": scale, "ratings": ratings, "stages": results[0]["stages"], "models": models}


if __name__ == "__main__":
    main()
