"""What a baseline is, and the registry that each file of this package adds its own to.

To add one, write a file here: its settings, a scorer, and `add(Baseline(...))` at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass as validated_dataclass

from core.json_files import STRICT
from core.registry import LAST, Registry
from models.evaluation.judgement import PairScorer
from models.protocols.base import PROTOCOLS
from models.search_space import SearchSpace

if TYPE_CHECKING:  # reading features imports Merlin, which takes seconds
    from models.data.features import Features
    from models.data.interactions import Interactions


@dataclass(frozen=True)
class TrainingData:
    """What a baseline is fitted to.

    Attributes:
        rows: the training ratings.
        users, movies: how many indices there are, the reserved ones included.
        features: the features that the rows are of; only the truth needs them.
        tables: the folder of the dataset's tables; only the truth needs it.
    """

    rows: "Interactions"
    users: int
    movies: int
    features: "Features | None" = field(default=None, kw_only=True)
    tables: Path | None = field(default=None, kw_only=True)


@validated_dataclass(frozen=True, config=STRICT)
class NoSettings:
    """Settings of a baseline that has none."""


def always(tables: Path | None) -> bool:
    """The `applies` of a baseline that fits every dataset."""
    return True


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A model that is fitted without gradient descent, in seconds.

    Attributes:
        name: what commands and result files call it.
        title: what the tables of the README call it.
        tasks: what it can do: it is compared in every protocol of such a task (`models/evaluation/metrics/`).
        fit: training data, settings and seed to a scorer.
        settings: the pydantic dataclass of its settings.
        space: the search space of `tune`, by the names of settings; empty for a baseline that is not tuned.
        uses_chance: whether another seed gives another scorer.
        is_cheap: whether it is fitted to datasets of any size.
        in_run: whether `run` and `evaluate` fit it; `compare` and `tune` do in any case.
        applies: whether it can be fitted to the dataset whose tables are in this folder (None: not known).
        position: its place in tables, the lowest first.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    fit: Callable[[TrainingData, Any, int], PairScorer]
    settings: type = NoSettings
    space: SearchSpace = field(default_factory=dict)
    uses_chance: bool = False
    is_cheap: bool = False
    in_run: bool = True
    applies: Callable[[Path | None], bool] = always
    position: int = LAST


BASELINES: Registry[Baseline] = Registry("baseline", "models.baselines")  # by "task/name"


def add(baseline: Baseline) -> Baseline:
    """Adds a baseline to the registry, once for each of its tasks."""
    for task in baseline.tasks:
        BASELINES.add(f"{task}/{baseline.name}", baseline, baseline.position)
    return baseline


def baselines_of(protocol: str) -> dict[str, Baseline]:
    """The baselines of a protocol, those of its task, by name, in the order of the tables."""
    task = PROTOCOLS[protocol].task
    return {entry.name: entry for key, entry in BASELINES.items() if key == f"{task}/{entry.name}"}
