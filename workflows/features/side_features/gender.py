"""A user's gender, as the dataset writes it."""

from core.columns import GENDER
from workflows.features.side_features.base import SIDE_FEATURES, UserFeature


class Gender(UserFeature):
    """Codes of `gender`."""

    source = (GENDER,)


SIDE_FEATURES.add("gender", Gender(), position=10)
