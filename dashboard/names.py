"""What models and metrics are called on the page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


def capitalized(name: str) -> str:
    """A name as it stands at the beginning of a line.

    >>> capitalized("item-kNN"), capitalized("k-NN with means"), capitalized("DLRM")
    ('Item-kNN', 'k-NN with means', 'DLRM')
    """
    return name[0].upper() + name[1:] if re.match("[a-z]{2}", name) else name


@dataclass(frozen=True)
class Names:
    """See the module.

    Attributes:
        metrics: titles by metric.
        models: titles by model, as the report has written them; empty without a report.
        colors: CSS colours by network, as `models`.
    """

    metrics: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict)
    colors: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        """A model's title; without a report its name, in capitals where it is as short as an abbreviation."""
        return capitalized(self.models.get(name) or (name.upper() if len(name) <= 4 else name))

    def metric(self, name: str) -> str:
        """A metric's title; its name where it is not known."""
        return capitalized(self.metrics.get(name, name))
