"""Classes of what was judged, for slices: by number or by name."""

from collections.abc import Sequence
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


def between(value: np.ndarray, limits: Sequence[tuple[str, float]]) -> list[Class]:
    """Classes with fixed limits; those that are empty are left out.

    Args:
        value: float [n]; a NaN is in no class.
        limits: the name of each class, and the value below which it ends, ascending.

    >>> [(one.name, one.rows.tolist()) for one in between(np.array([0, 7, 2, np.nan]), [("new", 1), ("old", np.inf)])]
    [('new', [0]), ('old', [1, 2])]
    """
    code = np.searchsorted([limit for _, limit in limits], value, side="right")
    there = ~np.isnan(value)
    members = [Class(name, np.flatnonzero((code == place) & there)) for place, (name, _) in enumerate(limits)]
    return [one for one in members if len(one.rows)]


def by_name(names: Sequence[Sequence[str]], without: str) -> list[Class]:
    """A class for each name, in alphabetical order; a row is in the class of each of its names.

    Args:
        names: of each row.
        without: the class of rows without a name, the last.

    >>> [(one.name, one.rows.tolist()) for one in by_name([["War"], [], ["Drama", "War"]], "none")]
    [('Drama', [2]), ('War', [0, 2]), ('none', [1])]
    """
    members: dict[str, list[int]] = {}
    for row, of_row in enumerate(names):
        for name in of_row if len(of_row) else [without]:
            members.setdefault(name, []).append(row)
    return [Class(name, np.array(members[name])) for name in sorted(members, key=lambda name: (name == without, name))]
