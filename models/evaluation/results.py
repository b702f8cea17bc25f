"""`evaluation.json`, written and read. Imports neither Merlin nor PyTorch, so that it answers at once."""

from pathlib import Path
from typing import Any

from core.artifacts import sha256
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import Run

FIELDS = {"model", "protocol", "metrics", "ci95", "seed", "epochs", "train_seconds", "samples_per_second"}


def read_results(run: Run) -> list[dict[str, Any]]:
    """The results in `evaluation.json`.

    Raises:
        UserError: it is missing, or is not a list of results.
    """
    results = read_json(run.evaluation)
    if not isinstance(results, list) or not all(map(_is_result, results)):
        raise UserError(f"{run.evaluation} is not a list of results; delete it and run evaluate again")
    return results


def write_results(run: Run, results: list[dict[str, Any]], made_from: str) -> None:
    """Writes `evaluation.json`, and beside it what it was made from."""
    write_json(run.evaluation, results)
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
        results = [{**result, "stages": stages} for result in before]
        if results != before:
            write_results(run, results, origin)


def _stamp(run: Run) -> Path:
    return run.root / ".evaluation-stamp.json"


def _is_result(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() >= FIELDS:
        return False
    metrics, intervals = value["metrics"], value["ci95"]
    return (
        isinstance(metrics, dict)
        and isinstance(intervals, dict)
        and metrics.keys() == intervals.keys()
        and all(map(_is_number, metrics.values()))
        and all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in intervals.values())
        and all(_is_number(value[name]) for name in ("seed", "epochs", "train_seconds", "samples_per_second"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
