"""A user's age, in the groups of MovieLens-1M."""

from typing import Any

from core.columns import AGE
from workflows.features.side_features.base import SIDE_FEATURES, UserFeature

AGE_GROUPS = [18, 25, 35, 45, 50, 56]  # the first year of each group but the youngest


class Age(UserFeature):
    """Codes of the age group."""

    source = (AGE,)

    def categories(self) -> Any:
        from nvtabular import ops

        return [AGE] >> ops.Bucketize({AGE: AGE_GROUPS})


SIDE_FEATURES.add("age", Age(), position=20)
