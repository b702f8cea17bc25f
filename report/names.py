"""What the page calls models and how it colours them: it reads this from a file, as it cannot import the registries."""

from models.baselines.base import baselines_of
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from report.style import color_of, title_of

NAMES = "names.json"  # of the file in the report's folder


def names() -> dict[str, dict[str, str]]:
    """`models`: each model's title, by its name; `colors`: each network's colour."""
    models = {name: title_of(protocol, name) for protocol in PROTOCOLS for name in [*NETWORKS, *baselines_of(protocol)]}
    return {"models": models, "colors": {name: color_of(name) for name in NETWORKS}}
