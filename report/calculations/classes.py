"""Classes of what was judged, for slices: by number or by name."""

from collections.abc import Sequence

import numpy as np

from models.evaluation.classes import Class


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
