"""Every accuracy figure that is published, from its file in accuracy/ into the pages; measures them again on request.

python bench/accuracy.py                          # writes the tables from the files
python bench/accuracy.py --measure                # MovieLens-100K, five seeds of everything, and `make run`'s output
python bench/accuracy.py --measure --ml-1m FOLDER --paper FOLDER    # MovieLens-1M, and the NCF paper's files
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from inputs import ROOT  # which puts the checkout on Python's path
from records import BENCH, machine, replace
from study_table import studies_section

from core.json_files import write_json
from models.baselines.base import baselines_of
from models.evaluation.ncf_paper import ALL_MOVIES, METRICS, PROTOCOL, PUBLISHED
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS, default_protocols, protocol_groups

FOLDER = BENCH / "accuracy"
README = ROOT / "README.md"
PAPER = FOLDER / "paper.json"
RUN = FOLDER / "run.txt"
FOLDED = "ml-100k"  # the dataset whose five folds are published
NAMES = {"ml-100k": "MovieLens-100K", "ml-1m": "MovieLens-1M"}
LEFT_OUT = {"leave-one-out": ("auc",), "temporal": ("auc", "ndcg@10")}  # columns that the page has no room for
REMARKS = {"ncf": " (NeuMF)"}  # what the page says after a network's title


def write(page: Path = README, studies: Path = BENCH / "README.md") -> None:
    """Renews every table of the pages from the files."""
    replace(studies, "studies", studies_section(NAMES))
    for dataset in NAMES:
        path = FOLDER / f"{dataset}.json"
        if path.is_file():
            replace(page, dataset, dataset_section(_read(path)))
    if PAPER.is_file():
        replace(page, "paper", paper_section(_read(PAPER)))
    if RUN.is_file():
        replace(page, "run", f"```\n{RUN.read_text(encoding='utf-8').rstrip()}\n```")


def dataset_section(found: dict[str, Any]) -> str:
    """A table for each protocol, and what it says of the networks that are compared; one for all of a group."""
    name = NAMES[found["dataset"]]
    size = ", ".join(f"{number:,} {what}" for what, number in found["counts"].items())
    alone = {key: judged for key, judged in found["protocols"].items() if not PROTOCOLS[key].group}
    seeds = next((judged.get("seeds") for judged in alone.values()), None) or found["seeds"]
    lines = [f"**{name}** ({size}; {len(seeds)} training seeds)"]
    for protocol, judged in alone.items():
        columns = _columns(protocol, [row["metrics"] for row in judged["models"].values()])
        lines += ["", *_head(PROTOCOLS[protocol].title, columns)]
        for model, row in judged["models"].items():
            cells = " | ".join(_figure(row, metric) for metric in columns)
            seeds = max(len(values) for values in row["per_seed"].values())
            lines.append(f"| {_label(protocol, model)} | {cells} | {seeds} |")
        lines += ["", judged["verdict"]]
    for group, protocols in protocol_groups().items():
        parts = {protocol: found["protocols"][protocol] for protocol in protocols if protocol in found["protocols"]}
        lines += ["", *group_table(group, parts)] if len(parts) == len(protocols) else []
    return "\n".join(lines)


def group_table(group: str, parts: dict[str, Any]) -> list[str]:
    """One table of protocols that are asked together: each model's mean over them, and the deviation.

    Args:
        parts: what `compare` found, by protocol: all of the group. A figure of a protocol is the mean over its seeds.
    """
    first = next(iter(parts))
    models = parts[first]["models"]
    columns = _columns(first, [row["metrics"] for row in models.values()])
    what = f"{PROTOCOLS[first].question.partition(' (')[0]} (mean of {len(parts)} {group}, sd over the {group})"
    lines = _head(what, columns)
    for model in models:
        rows = [judged["models"][model] for judged in parts.values()]
        cells = [_mean([row["metrics"][metric] for row in rows]) for metric in columns]
        seeds = min(len(values) for row in rows for values in row["per_seed"].values())
        lines.append(f"| {_label(first, model)} | {' | '.join(cells)} | {seeds} |")
    return lines


def _head(first: str, columns: dict[str, str]) -> list[str]:
    """The first two lines of a table of models."""
    return [f"| {first} | {' | '.join(columns.values())} | seeds |", "|---" * (len(columns) + 2) + "|"]


def _columns(protocol: str, found: list[dict[str, Any]]) -> dict[str, str]:
    """The headings of the metrics that any model of a table has; its figures are by metric."""
    there = {metric for figures in found for metric in figures} - set(LEFT_OUT.get(protocol, ()))
    columns = PROTOCOLS[protocol].columns
    return {metric: heading.replace("\n", ", ") for heading, metric in columns if metric in there}


def _label(protocol: str, model: str) -> str:
    """What the page calls a model: the compared networks stand out."""
    if model not in NETWORKS:
        return baselines_of(protocol)[model].title
    network = NETWORKS[model]
    return (network.title if network.is_baseline else f"**{network.title}**") + REMARKS.get(model, "")


def _figure(row: dict[str, Any], metric: str) -> str:
    value, pair = row["metrics"].get(metric), row["ci95"].get(metric)
    if value is None or pair is None:
        return "-" if value is None else f"{value:.4f}"
    low, high = pair
    values = row["per_seed"][metric]
    spread = f" (sd {stdev(values):.4f})" if len(values) > 1 else ""
    return f"{value:.4f} ± {(high - low) / 2:.4f}{spread}"


def paper_section(found: dict[str, Any]) -> str:
    """The NCF paper's benchmark: means over seeds, beside what was published, which is of sampled movies alone."""
    results = found["results"]
    columns = _columns(PROTOCOL, results)
    lines = _head("model", columns)
    by_model = {name: [r for r in results if r["model"] == name] for name in dict.fromkeys(r["model"] for r in results)}
    for name, rows in sorted(by_model.items(), key=lambda item: -mean(r[ALL_MOVIES[-1]] for r in item[1])):
        cells = " | ".join(_mean([row[metric] for row in rows]) for metric in columns)
        lines.append(f"| {_label(PROTOCOL, name)} | {cells} | {len(rows)} |")
    for source, figures in found["published"].items():
        known = dict(zip(METRICS, figures))
        lines.append(f"| *published: {source}* | {' | '.join(str(known.get(metric, '')) for metric in columns)} | |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    spread = f" (sd {stdev(values):.4f})" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}"


def measure(ml_1m: Path | None, paper: Path | None, runs: Path) -> None:
    """Runs the commands whose results are published: hours on two cores."""
    FOLDER.mkdir(exist_ok=True)
    _dataset("ml-100k", None, runs)
    text = _marquee("run", "--runs", str(runs))
    RUN.write_text(_end_of_run(text), encoding="utf-8")
    if ml_1m:
        _dataset("ml-1m", ml_1m, runs)
    if paper:
        results = runs / "paper.json"
        results.unlink(missing_ok=True)  # what it holds would be kept
        _marquee("paper", "--data", str(paper), "--out", str(results))
        keep_paper(_read(results))


def keep_paper(results: list[dict[str, Any]]) -> None:
    """Puts what `paper --out` wrote among the published files, with what it is compared to."""
    _write(PAPER, {"machine": machine(), "published": PUBLISHED, "results": results})


def _dataset(name: str, data: Path | None, runs: Path) -> None:
    _marquee("fetch", "--dataset", name, "--runs", str(runs), *(["--data", str(data)] if data else []))
    for protocols in ("standard", "temporal", *(protocol_groups() if name == FOLDED else ())):
        where = ("--dataset", name, "--runs", str(runs), "--protocol", protocols)
        _marquee("prepare", *where)
        _marquee("compare", *where, "--out", str(FOLDER / f"{name}.json"))


def _marquee(*arguments: str) -> str:
    command = [sys.executable, "-m", "marquee", *arguments]
    print("$", " ".join(command[1:]), flush=True)
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout


def _end_of_run(text: str) -> str:
    """From the comparison on, without where things were written."""
    first = PROTOCOLS[default_protocols()[0]].question.partition(" (")[0]
    start = text.index(first)
    return "\n".join(line.rstrip() for line in text[start:].splitlines() if not line.startswith("Results:")) + "\n"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    write_json(path, value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The published accuracy figures: renewed in the pages, or measured again."
    )
    parser.add_argument("--measure", action="store_true", help="measure everything again first")
    parser.add_argument("--ml-1m", type=Path, metavar="FOLDER", help="MovieLens-1M's files")
    parser.add_argument("--paper", type=Path, metavar="FOLDER", help="the NCF paper's files")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", metavar="FOLDER", help="where run folders are kept")
    options = parser.parse_args()
    if options.measure:
        measure(options.ml_1m, options.paper, options.runs)
    write()


if __name__ == "__main__":
    main()
