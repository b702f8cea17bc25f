"""How many stars will they give? Asked of the five folds of MovieLens-100K, so that published figures can be compared.

The mean over `rating-u1` to `rating-u5` is what papers report (see `workflows/splits/folds.py`). The settings are those
of `rating`, whose studies looked at validation rows of the random split: some of them are in the test of a fold.
"""

from models.protocols.base import PROTOCOLS
from models.protocols.rating import Rating

FOLDS = ("u1", "u2", "u3", "u4", "u5")  # the splits

for place, fold in enumerate(FOLDS):
    PROTOCOLS.add(
        f"rating-{fold}",
        Rating(
            name=f"rating-{fold}",
            split=fold,
            task="rating",
            monitor="rmse",
            deciding="rmse",
            group="folds",
            defaults_like="rating",
            question=f"How many stars will they give? (rating-{fold}, the published fold {fold})",
            title=f"How many stars? (fold {fold})",
            is_default=False,
            is_served=False,
        ),
        position=50 + place,
    )
