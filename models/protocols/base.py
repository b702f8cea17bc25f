"""A protocol: what models are asked, how they learn it, and how their answers are judged.

Importing the protocols imports neither PyTorch nor Merlin, so that the command line can list them at once.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from core.registry import Registry
from models.evaluation.judgement import Judgement, Scorer
from models.evaluation.metrics.base import Metric, columns_of, metric_of, metrics_of
from models.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from models.data.features import Features
    from models.data.interactions import Interactions

PROTOCOLS: Registry["Protocol"] = Registry("protocol", "models.protocols")
Questions = TypeVar("Questions")


@dataclass(frozen=True)
class Examples:
    """Answers and what they should have been.

    Attributes:
        score: float [n], probabilities.
        label: float [n], 0 or 1.
        weight: float [n], how much each counts.
    """

    score: "np.ndarray"
    label: "np.ndarray"
    weight: "np.ndarray"


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC, Generic[Questions]):
    """One way to ask and to judge.

    Attributes:
        name: as users and files call it.
        split: whose features it is asked of: a name in `workflows.splits`.
        task: whose metrics judge it: see `models/evaluation/metrics/`.
        monitor: the metric that validation chooses by.
        deciding: the metric that decides which of two models is better: of a ranking, one over all movies, `full_...`.
        also_compared: further metrics whose differences `compare` reports.
        question: the heading of its tables.
        title: its name in the README's tables.
        needs_validation: whether a network is refused whose monitor is undefined on the validation rows. Without, its
            last epoch is kept.
        is_default: whether `run` asks it.
        is_served: whether its models can be exported: what is served are probabilities.
        draws_negatives: whether a training row comes with movies that its user has not rated.
        space: what a study of a trained model searches besides the model's own settings.
        defaults_like: the protocol whose default settings its models take where there are none of its own; empty for
            none.
        group: another name, of several protocols that are asked together; empty for none.
    """

    name: str
    split: str
    task: str
    monitor: str
    deciding: str
    question: str
    title: str
    also_compared: tuple[str, ...] = ()
    needs_validation: bool = True
    is_default: bool = True
    is_served: bool = True
    draws_negatives: bool = False
    space: SearchSpace = field(default_factory=dict)
    defaults_like: str = ""
    group: str = ""

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of its task by name."""
        return metrics_of(self.task)

    def metric(self, name: str) -> Metric:
        """A metric by the name of a figure: `full_hr@10` is `hr@10` over the whole catalogue."""
        return metric_of(self.task, name)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The columns of its tables: heading and name of a figure. A heading may have several lines."""
        return columns_of(self.task)

    def heading(self, others: tuple[int, int] | None) -> str:
        """The heading of its tables.

        Args:
            others: the fewest and the most movies that a held-out movie was ranked among, where that was asked.
        """
        return self.question

    @abstractmethod
    def label(self, rows: "Interactions") -> "Tensor":
        """What a model learns of each row, float32 [n]."""

    @abstractmethod
    def loss(self, outputs: "Tensor", label: "Tensor", weight: "Tensor | None") -> "Tensor":
        """The mean loss of a network's outputs, float32 [n] all three; `weight` is None where all rows count alike."""

    @abstractmethod
    def answer(self, outputs: "Tensor") -> "Tensor":
        """A network's outputs as the scores that are judged and served, float32 [n]."""

    @abstractmethod
    def offset(self, features: "Features") -> float:
        """What is added to every output of a network, so that it starts near the mean."""

    @abstractmethod
    def questions(self, features: "Features", part: str, seed: int = 0) -> Questions:
        """What `valid` or `test` asks.

        Args:
            seed: of what is drawn where there is too much to ask.
        """

    @abstractmethod
    def judge(self, scorer: Scorer, questions: Questions) -> list[Judgement]:
        """A model's metrics, with the tables that they are taken from."""

    def examples(self, scorer: Scorer, questions: Questions) -> "Examples | None":
        """A model's answers and what they should have been, to calibrate by; None where they are no probabilities."""
        return None

    def test(self, scorer: Scorer, features: "Features", seed: int) -> list[Judgement]:
        """Scores the test set; `seed` as in `questions`."""
        return self.judge(scorer, self.questions(features, "test", seed))


def served_protocols() -> tuple[str, ...]:
    """The protocols whose models can be exported."""
    return tuple(name for name, protocol in PROTOCOLS.items() if protocol.is_served)


def default_protocols() -> tuple[str, ...]:
    """The protocols that `run` is about."""
    return tuple(name for name, protocol in PROTOCOLS.items() if protocol.is_default)


def prepared_protocols() -> tuple[str, ...]:
    """Those that are asked of the features that `run` prepares."""
    splits = {PROTOCOLS[name].split for name in default_protocols()}
    return tuple(name for name, protocol in PROTOCOLS.items() if protocol.split in splits)


def protocol_groups() -> dict[str, tuple[str, ...]]:
    """The protocols that have a group, by its name."""
    names = dict.fromkeys(protocol.group for protocol in PROTOCOLS.values() if protocol.group)
    return {group: tuple(name for name, one in PROTOCOLS.items() if one.group == group) for group in names}


def preparing(protocol: str) -> str:
    """The command, with its options, that prepares a protocol's features."""
    return "prepare" if protocol in prepared_protocols() else f"prepare --protocol {protocol}"
