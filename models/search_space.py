"""What a search space is made of, without Optuna, which takes long to import. `models.tuning` gives these to Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Log:
    """A float from `low` to `high`, both included, uniform in its logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Uniform:
    """A float from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class Integer:
    """An integer from `low` to `high`, both included; with `log`, uniform in its logarithm."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True, init=False)
class OneOf:
    """One of several values: `OneOf("cosine", "bm25")`."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        object.__setattr__(self, "values", values)


Range = Log | Uniform | Integer | OneOf
SearchSpace = Mapping[str, Range]  # the name of a setting to the values that are tried
