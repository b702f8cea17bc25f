"""A user's occupation, as the dataset writes it."""

from core.columns import OCCUPATION
from workflows.features.side_features.base import SIDE_FEATURES, UserFeature


class Occupation(UserFeature):
    """Codes of `occupation`."""

    source = (OCCUPATION,)


SIDE_FEATURES.add("occupation", Occupation(), position=30)
