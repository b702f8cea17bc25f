"""Metrics of predicted stars."""

import numpy as np

from models.evaluation.metrics.base import Metric, RowStatistic, add, mean_of, refuse_other_shapes


def rmse(stars: np.ndarray, predicted: np.ndarray) -> RowStatistic:
    """The root of the mean squared error, of float64 [rows] stars and predictions."""
    refuse_other_shapes(stars, predicted)
    squares = np.stack([np.ones(len(stars)), (predicted - stars) ** 2], axis=1)
    return RowStatistic(squares, lambda sums: float(np.sqrt(sums[1] / sums[0])))


def mae(stars: np.ndarray, predicted: np.ndarray) -> RowStatistic:
    """The mean absolute error, of float64 [rows] stars and predictions."""
    refuse_other_shapes(stars, predicted)
    return mean_of(np.abs(predicted - stars))


add("rmse", Metric(task="rating", title="RMSE", higher_is_better=False, per_row=rmse), position=10)
add("mae", Metric(task="rating", title="MAE", higher_is_better=False, per_row=mae), position=20)
