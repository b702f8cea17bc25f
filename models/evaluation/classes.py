"""Classes of judged rows or users, each a slice that a metric can be taken of."""

from dataclasses import dataclass

import numpy as np

QUANTILES = 5


@dataclass(frozen=True)
class Class:
    """One class: its name, and which of the judged rows are in it, int64, ascending."""

    name: str
    rows: np.ndarray


def equal_counts(value: np.ndarray, classes: int = QUANTILES) -> list[Class]:
    """Classes of about equally many rows, from the lowest values to the highest, named by their range.

    Equal values stay together, so that there may be fewer classes.

    Args:
        value: int [n].

    >>> [(one.name, one.rows.tolist()) for one in equal_counts(np.array([5, 1, 3, 2]), classes=2)]
    [('1–2', [1, 3]), ('3–5', [0, 2])]
    """
    ordered = np.sort(value)
    starts = np.unique(ordered[np.arange(classes) * len(value) // classes]) if len(value) else ordered
    code = np.searchsorted(starts, value, side="right")
    members = [np.flatnonzero(code == one + 1) for one in range(len(starts))]
    return [Class(_range(value[rows].min(), value[rows].max()), rows) for rows in members]


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}\u2013{high:,}"
