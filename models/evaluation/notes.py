"""What stands beside tables of figures: notes on users left out and missing figures, and means over training seeds."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from core.constants import K
from models.evaluation.judgement import CI95
from models.protocols.base import PROTOCOLS

# What users can be left out of, by the field that counts the others.
LEFT_OUT_OF = {"test_users": "sampled figures", "full_catalogue_users": "figures over all movies"}


def notes(protocol: str, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which users are left out, and why figures are missing, a sentence each.

    Args:
        results: entries of `evaluation.json`, or of the models of `compare`, as dictionaries.
    """
    columns = PROTOCOLS[protocol].columns
    titles = {metric: ", ".join(heading.split("\n")) for heading, metric in columns}
    titles[CI95] = "Intervals"
    lacking: dict[str, list[str]] = {}  # titles by reason
    for result in results:
        for name, reason in (result.get("undefined") or {}).items():
            if name in titles and titles[name] not in lacking.setdefault(reason, []):
                lacking[reason].append(titles[name])
    left_out = {
        LEFT_OUT_OF.get(name, name): count for r in results for name, count in (r.get("left_out") or {}).items()
    }
    found = [f"{', '.join(names)}: none, as {reason}." for reason, names in lacking.items() if names]
    if left_out:
        counts = " and ".join(f"{count:,} of the {figures}" for figures, count in left_out.items())
        found.insert(0, f"Users left out, as among fewer than {K} unseen movies any is a hit: {counts}.")
    return found


def over_seeds(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over training seeds, and half of its 95 % interval by Student's t; None for that with a single seed.

    Args:
        values: at least one.
    """
    if len(values) < 2:
        return fmean(values), None
    from scipy.stats import t  # type: ignore[import-untyped]  # takes a second, and other tables do not need it

    return fmean(values), float(t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5)
