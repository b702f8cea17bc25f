"""What models and metrics are called on the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
        return self.models.get(name) or (name.upper() if len(name) <= 4 else name.capitalize())

    def metric(self, name: str) -> str:
        """A metric's title; its name where it is not known."""
        return self.metrics.get(name, name)
