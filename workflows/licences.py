"""What the publishers of datasets allow, for whoever serves models that were trained on them.

In a file of its own, beside the datasets, as no table depends on it.
"""

from core.registry import Registry
from workflows.sources.datasets import SYNTHETIC

LICENCES: Registry[str] = Registry("licence", __name__)  # a few sentences, by the dataset's name
NOT_STATED = "Not stated: ask whoever published the data what may be done with it."
MADE_BY_SYNTH = "Made by `synth`: no person's ratings, and no terms."

_BOTH = (
    "GroupLens, the publisher, allows no commercial or revenue-bearing use without its permission, and asks to be "
    "acknowledged in publications."
)
_NO_COPIES = f"{_BOTH} The data may not be redistributed without separate permission."
_SAME_TERMS = f"{_BOTH} The data may be redistributed, transformations included, only under these same terms."


def licence_of(dataset: str) -> str:
    """What may be done with a dataset, in a few sentences."""
    if dataset.startswith(SYNTHETIC):
        return MADE_BY_SYNTH
    return LICENCES.get(dataset, NOT_STATED)


# From the README of each release, under "Usage License".
for _name in ("ml-100k", "ml-1m", "ml-10m"):
    LICENCES.add(_name, _NO_COPIES)
for _name in ("ml-20m", "ml-25m", "ml-32m", "ml-latest-small"):
    LICENCES.add(_name, _SAME_TERMS)
# From the README of the Netflix Prize's training set.
LICENCES.add(
    "netflix",
    "Netflix, the publisher, allowed no commercial use and no redistribution without separate permission, and has "
    "withdrawn the data.",
)
