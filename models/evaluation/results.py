"""`evaluation.json`. Imports neither Merlin nor PyTorch, so that it answers at once."""

from dataclasses import asdict, field, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from pydantic.dataclasses import dataclass
from rich.box import SIMPLE_HEAD
from rich.table import Table

from core.artifacts import sha256
from core.errors import UserError
from core.json_files import STRICT, read_json, validated, write_json
from core.run_folder import RATING_PROTOCOL, Run

QUESTIONS = {
    "leave-one-out": "What will they watch next? (leave-one-out, a user's last movie among 99 unseen)",
    "random-split": "Will they like it? (random-split)",
    RATING_PROTOCOL: "How many stars will they give? (rating, the same split)",
}
COLUMNS = {
    "leave-one-out": (
        ("HR@10", "hr@10"),
        ("NDCG@10", "ndcg@10"),
        ("AUC", "auc"),
        ("HR@10\nall movies", "full_hr@10"),
        ("NDCG@10\nall movies", "full_ndcg@10"),
    ),
    "random-split": (("AUC", "auc"), ("log loss", "log_loss")),
    RATING_PROTOCOL: (("RMSE", "rmse"), ("MAE", "mae")),
}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Result:
    """One entry of `evaluation.json`: a model, judged by a protocol.

    Attributes:
        metrics: each metric by its name.
        ci95: the 95 % interval of each, low and high.
        epochs, train_seconds, samples_per_second: of the training; 0 for a baseline.
        test_users, full_catalogue_users, test_rows: how many were asked about.
        stages: what each stage of the run took, in `seconds` and `peak_mb`.
    """

    model: str
    protocol: str
    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    seed: int
    epochs: int
    train_seconds: float
    samples_per_second: int
    test_users: int | None = None
    full_catalogue_users: int | None = None
    test_rows: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] | None = None


def read_results(run: Run) -> list[Result]:
    """The results in `evaluation.json`.

    Raises:
        UserError: it is missing, or is not a list of results; the message names the key that is wrong.
    """
    command = run.command("evaluate")
    results = validated(list[Result], read_json(run.evaluation, command), str(run.evaluation))
    for result in results:
        if result.metrics.keys() != result.ci95.keys():
            raise UserError(
                f"{run.evaluation}: {result.model} has metrics without intervals; delete it and run: {command}"
            )
    return results


def write_results(run: Run, results: list[Result], made_from: str) -> None:
    """Writes `evaluation.json`, and beside it what it was made from."""
    entries = [{key: value for key, value in asdict(result).items() if value is not None} for result in results]
    write_json(run.evaluation, entries)
    write_json(_stamp(run), {"fingerprint": made_from, "sha256": sha256(run.evaluation)})


def made_from(run: Run) -> str | None:
    """The fingerprint of what `evaluation.json` was made from; None where it is not there, or was changed since."""
    if not run.evaluation.is_file() or not _stamp(run).is_file():
        return None
    stamp = read_json(_stamp(run))
    return stamp["fingerprint"] if stamp.get("sha256") == sha256(run.evaluation) else None


def add_stages(run: Run, stages: dict[str, dict[str, float]]) -> None:
    """Puts each stage's `seconds` and `peak_mb` into every result."""
    origin = made_from(run)
    if origin is not None:
        before = read_results(run)
        results = [replace(result, stages=stages) for result in before]
        if results != before:
            write_results(run, results, origin)


def _stamp(run: Run) -> Path:
    return run.root / ".evaluation-stamp.json"


def comparison_tables(run: Run) -> list[Table]:
    """One table per protocol: a model per row, metrics ± half their 95 % interval, seconds of training."""
    results = read_results(run)
    tables = []
    for protocol, columns in COLUMNS.items():
        if not any(result["protocol"] == protocol for result in results):
            continue
        table = _table(QUESTIONS[protocol], [heading for heading, _ in columns])
        for result in results:
            if result["protocol"] == protocol:
                figures = [_figure(result, metric) for _, metric in columns]
                seconds = f"{result['train_seconds']:.0f} s" if result["epochs"] else "none"
                table.add_row(result["model"], *figures, seconds)
        tables.append(table)
    return tables


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("training", justify="right")
    return table


def _figure(result: dict[str, Any], metric: str) -> str:
    if metric not in result["metrics"]:
        return "-"
    low, high = result["ci95"][metric]
    return f"{result['metrics'][metric]:.3f} ±{(high - low) / 2:.3f}".replace("±0.", "±.")


def seeds_tables(found: dict[str, Any]) -> list[Any]:
    """What `compare` found: a table per protocol, and a sentence on DLRM and NCF.

    A figure is the mean over seeds ± half the 95 % interval over users; in brackets the standard deviation over seeds.
    """
    parts: list[Any] = []
    for protocol, judged in found["protocols"].items():
        table = _table(QUESTIONS[protocol], [heading for heading, _ in COLUMNS[protocol]])
        for name, model in judged["models"].items():
            cells = []
            for _, metric in COLUMNS[protocol]:
                values = model["per_seed"].get(metric, [])
                spread = f" ({stdev(values):.3f})".replace("(0.", "(.") if len(values) > 1 else ""
                cells.append(_figure(model, metric) + spread)
            table.add_row(name, *cells, f"{model['train_seconds']:.0f} s" if model["train_seconds"] else "none")
        parts += [table, judged["verdict"], ""]
    return parts


def paper_table(
    name: str, users: int, results: list[dict[str, Any]], published: dict[str, tuple[float, float]]
) -> Table:
    """What `paper` found: means over seeds with 95 % intervals (Student's t), above the published figures."""
    table = Table(
        title=f"{name}: a user's last movie among 99 others, {users:,} users", title_justify="left", box=SIMPLE_HEAD
    )
    for heading in ("model", "seeds", "HR@10", "NDCG@10"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=heading != "model")
    for model in dict.fromkeys(result["model"] for result in results):
        rows = [result for result in results if result["model"] == model]
        table.add_row(model, str(len(rows)), *(_over_seeds([row[m] for row in rows]) for m in ("hr@10", "ndcg@10")))
    table.add_section()
    for source, (hits, gain) in published.items():
        table.add_row(f"published, on the authors' test lists: {source}", "", f"{hits:g}", f"{gain:g}")
    return table


def _over_seeds(values: list[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    from scipy.stats import t  # type: ignore[import-untyped]  # takes a second, and other tables need none of it

    half = t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean:.4f} ±{half:.4f}".replace("±0.", "±.")
