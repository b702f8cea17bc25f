"""A movie's year of release, standardised over the movies whose year is known; 0 where it is unknown."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.columns import YEAR
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature


def unknown_to_null(year: Any) -> Any:
    """Years in float32, the 0 that stands for unknown as null. Named, as LambdaOp's functions are saved by name."""
    return year.astype("float32").where(year > 0)


class Year(MovieFeature):
    """One column, `year`, with mean 0 and standard deviation 1."""

    source = (YEAR,)
    weight = 0.3

    def graph(self, movies: pd.DataFrame, scratch: Path) -> Any:
        from nvtabular import ops

        return [YEAR] >> ops.LambdaOp(unknown_to_null) >> ops.Normalize() >> ops.FillMissing(0)

    def values(self, result: pd.DataFrame, scratch: Path) -> pd.DataFrame:
        return result[[YEAR]].astype(np.float32)


SIDE_FEATURES.add("year", Year(), position=20)
