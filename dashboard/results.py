"""`evaluation.json` as tables in HTML: a model a row, a metric a column, each figure with its interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dashboard.names import Names
from dashboard.parts.words import NOTHING, caption, row, table

COVERAGE, COVERAGE_TITLE = "coverage@10", "Catalogue in lists of 10"


def protocols(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The protocols that were judged, in the file's order."""
    return list(dict.fromkeys(str(one["protocol"]) for one in results))


def table_of(
    results: Sequence[Mapping[str, Any]],
    protocol: str,
    names: Names,
    networks: Sequence[str],
    lower_is_better: Sequence[str],
) -> str:
    """The results of a protocol.

    Args:
        networks: models whose rows are marked.
        lower_is_better: the metrics of which less is better.
    """
    rows = [one for one in results if one["protocol"] == protocol]
    there = dict.fromkeys(name for one in rows for name in one["metrics"])
    known = [name for name in names.metrics if name in there]
    metrics = list(dict.fromkeys([*known, *there]))
    covering = any(one.get("coverage") for one in rows)
    best = {metric: _best(rows, metric, min if metric in lower_is_better else max) for metric in metrics}
    lines = [
        row(
            names.model(str(one["model"])),
            [
                *(_cell(one, metric, best[metric]) for metric in metrics),
                *([_coverage(one)] if covering else []),
                _seconds(float(one.get("train_seconds") or 0)),
            ],
            "m-network" if one["model"] in networks else "",
        )
        for one in rows
    ]
    headings = ["Model", *map(names.metric, metrics), *([COVERAGE_TITLE] if covering else []), "Training"]
    return caption(_caption(rows)) + table(f"Results of {protocol}", headings, lines)


def _seconds(seconds: float) -> str:
    if seconds == 0:  # a baseline, whose time is not measured
        return NOTHING
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _coverage(result: Mapping[str, Any]) -> str:
    """The share of the catalogue in the users' lists, in percent."""
    found = (result.get("coverage") or {}).get(COVERAGE)
    if not found:
        return f"<td>{NOTHING}</td>"
    low, high = found.get("low"), found.get("high")
    small = "" if low is None or high is None else f"<small>{100 * low:.1f} to {100 * high:.1f}</small>"
    return f"<td>{100 * found['value']:.1f} %{small}</td>"


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    users = max((one.get("test_users") or 0 for one in rows), default=0)
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(one.get("seed") for one in rows) if seed is not None)
    counted = f", {users:,} test users" if users else ""
    over_all = max((one.get("full_catalogue_users") or 0 for one in rows), default=0)
    if over_all not in (0, users):
        counted += f" ({over_all:,} of them among all movies)"
    known = max((one.get("known_users") or 0 for one in rows), default=0)
    counted += f", {known:,} known before the test" if known else ""
    return (
        f"Test set{counted}, seed {seeds}. Small figures: 95 % interval by bootstrap over users. Bold: the best value."
    )


def _best(rows: Sequence[Mapping[str, Any]], metric: str, choose: Callable[[list[float]], float]) -> float | None:
    values = [one["metrics"][metric] for one in rows if one["metrics"].get(metric) is not None]
    return choose(values) if values else None


def _cell(result: Mapping[str, Any], metric: str, best: float | None) -> str:
    value = result["metrics"].get(metric)
    if value is None:
        return f"<td>{NOTHING}</td>"
    interval = (result.get("ci95") or {}).get(metric)
    small = f"<small>{interval[0]:.3f} to {interval[1]:.3f}</small>" if interval else ""
    mark = ' class="m-best"' if value == best else ""
    return f"<td{mark}>{value:.3f}{small}</td>"
