"""Protocols that are asked together, as the five folds of a dataset: each model's mean over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from models.evaluation.results import Result
from models.protocols.base import PROTOCOLS, protocol_groups
from report.files import RunFiles


@dataclass(frozen=True)
class Folded:
    """A model that was judged by every protocol of a group.

    Attributes:
        results: one for each protocol, in their order.
    """

    model: str
    results: list[Result]

    @property
    def seconds(self) -> float:
        """The mean time of training."""
        return fmean(one.train_seconds for one in self.results)

    def values(self, metric: str) -> list[float]:
        """The metric of each protocol; none where one of them has no value."""
        found = [one.metrics.get(metric) for one in self.results]
        return [value for value in found if value is not None] if None not in found else []

    def mean(self, metric: str) -> float | None:
        """The mean over the protocols; None where it is undefined for one of them."""
        values = self.values(metric)
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """The standard deviation over the protocols."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


def folded(files: RunFiles, group: str) -> list[Folded]:
    """The models that every protocol of a group has judged, in the order of the tables."""
    found: list[dict[str, Result]] = [
        {one.model: one for one in files.results if one.protocol == protocol} for protocol in protocol_groups()[group]
    ]
    first, *others = found
    everywhere = [model for model in first if all(model in results for results in others)]
    return [Folded(model, [results[model] for results in found]) for model in everywhere]


def alone(protocols: Sequence[str]) -> list[str]:
    """Those of the protocols that are in no group."""
    return [name for name in protocols if not PROTOCOLS[name].group]


def title_of_group(group: str) -> str:
    """What the protocols of a group ask, such as `How many stars? (mean of 5 folds)`."""
    names = protocol_groups()[group]
    return f"{PROTOCOLS[names[0]].title.partition(' (')[0]} (mean of {len(names)} {group})"


def title_of_asked(name: str) -> str:
    """The title of a protocol or of a group of them; empty for no name."""
    if not name:
        return ""
    return title_of_group(name) if name in protocol_groups() else PROTOCOLS[name].title


def asked_together(group: str) -> tuple[str, ...]:
    """The protocols that something is about that names a protocol or a group."""
    return protocol_groups().get(group, (group,))
