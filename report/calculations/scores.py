"""What scores of rows are worth: ROC, precision-recall and calibration."""

from dataclasses import dataclass

import numpy as np

from models.evaluation.judgement import PerRow
from models.evaluation.metrics.base import mean_of, refuse_other_shapes
from models.evaluation.metrics.classification import CALIBRATION_BINS
from report.calculations.groups import dense, grouped

POINTS = 400  # of a drawn curve: more than a screen has pixels across it
BINS = CALIBRATION_BINS  # as those of the ECE in `evaluation.json`


@dataclass(frozen=True)
class Points:
    """A curve: float64 [n] both, in the order of a falling threshold."""

    x: np.ndarray
    y: np.ndarray


def roc(label: np.ndarray, score: np.ndarray) -> Points:
    """Receiver operating characteristic: for each threshold t, from above all scores to the lowest,

        x = share of the negatives that score at least t        y = share of the positives that score at least t

    The trapezoids under it are the AUC (Fawcett, "An Introduction to ROC Analysis", 2006).

    Args:
        label: [n], 0 or 1, both there.
        score: float [n].

    >>> curve = roc(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    >>> curve.x.tolist(), curve.y.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    positives, negatives = _counts_above(label, score)
    return Points(np.append(0, negatives / negatives[-1]), np.append(0, positives / positives[-1]))


def precision_recall(label: np.ndarray, score: np.ndarray) -> Points:
    """Precision against recall, for each threshold from the highest score to the lowest.

        x = recall = share of the positives that score at least t
        y = precision = share of positives among the rows that score at least t

    (Davis and Goadrich, "The Relationship Between Precision-Recall and ROC Curves", 2006: points are not joined by
    straight lines; a step keeps the precision of the next threshold.)

    >>> curve = precision_recall(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    >>> curve.x.tolist(), curve.y.round(4).tolist()
    ([0.5, 1.0, 1.0], [1.0, 0.6667, 0.5])
    """
    positives, negatives = _counts_above(label, score)
    return Points(positives / positives[-1], positives / (positives + negatives))


def average_precision(curve: Points) -> float:
    """The area under the steps of a precision-recall curve: the sum of (gain in recall) x precision.

    (Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, 8.4.)

    >>> round(average_precision(precision_recall(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))), 4)
    0.8333
    """
    return float(np.sum(np.diff(curve.x, prepend=0) * curve.y))


def _counts_above(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many positives and negatives score at least as high as each distinct score, the highest first."""
    refuse_other_shapes(label, score)
    order = np.argsort(-score, kind="stable")
    ordered, positive = score[order], label[order] > 0
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
    return np.cumsum(positive)[last], np.cumsum(~positive)[last]


def thinned(curve: Points, points: int = POINTS) -> Points:
    """At most about `points` of a curve's points, evenly spaced along it, the first and the last among them."""
    length = np.cumsum(np.hypot(np.diff(curve.x, prepend=curve.x[0]), np.diff(curve.y, prepend=curve.y[0])))
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
    chosen = np.unique(np.concatenate([[0], chosen[chosen < len(length)], [len(length) - 1]]))
    return Points(curve.x[chosen], curve.y[chosen]) if len(curve.x) > points else curve


def bin_of(probability: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each row, int64 [n], 0 to `bins` - 1: equally many rows in each, as far as equal values allow.

    Rows with the same probability are in the same bin, so a bin can be larger, and another empty.

    >>> bin_of(np.array([0.1, 0.9, 0.4, 0.6]), bins=2).tolist(), bin_of(np.full(4, 0.5), bins=2).tolist()
    ([0, 1, 0, 1], [0, 0, 0, 0])
    """
    place = np.searchsorted(np.sort(probability), probability, side="left")
    return place * bins // max(1, len(probability))


@dataclass(frozen=True)
class Calibration:
    """How well probabilities fit what happened.

    Attributes:
        rows: int64 [bins], how many each bin holds; no bin is empty.
        predicted, observed: float64 [bins], the mean probability and the share of positives.
        low, high: the 95 % interval of `observed`, by bootstrap over users; NaN where there is none.
        error: the expected calibration error.
        by_chance: the error to be expected of perfect probabilities, as bins are of finite size.
    """

    rows: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float
    by_chance: float


def expected_calibration_error(rows: np.ndarray, predicted: np.ndarray, observed: np.ndarray) -> float:
    """The mean over rows of how far their bin's mean probability p is from its share of positives y.

        ECE = sum over bins of (rows of the bin / all rows) x |p - y|

    (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015; Guo et al., "On Calibration
    of Modern Neural Networks", 2017. Bins of equal counts: Nguyen and O'Connor, 2015.)

    Args:
        rows, predicted, observed: as in `Calibration`.

    >>> round(expected_calibration_error(np.array([1, 3]), np.array([0.2, 0.8]), np.array([0.0, 1.0])), 4)
    0.2
    """
    return float(np.sum(rows / rows.sum() * np.abs(predicted - observed)))


def error_by_chance(probability: np.ndarray, bins: np.ndarray) -> float:
    """The expected calibration error of probabilities that are right, with independent rows.

    A bin's share of positives is then off by about a normal variable, whose mean absolute value is sqrt(2 / pi)
    standard deviations; with p the probabilities of a bin's n rows, one of these is sqrt(sum of p (1 - p)) / n.

    Args:
        probability: float [n].
        bins: int [n], the bin of each.

    >>> round(error_by_chance(np.full(100, 0.5), np.zeros(100, int)), 4)
    0.0399
    """
    p = probability.astype(np.float64)
    return float(np.sqrt(2 / np.pi) * np.sqrt(np.bincount(bins, p * (1 - p))).sum() / len(p))


def calibration(
    label: np.ndarray, probability: np.ndarray, owner: np.ndarray, seed: int, bins: int = BINS
) -> Calibration:
    """The reliability diagram of probabilities, in bins of equal counts, and the expected calibration error.

    Args:
        label: [n], 0 or 1.
        probability: float [n].
        owner: int [n], whose row each is.
    """
    refuse_other_shapes(label, probability)
    found = bin_of(probability, bins)
    there = [found == one for one in np.unique(found)]
    rows = np.array([one.sum() for one in there])
    predicted = np.array([probability[one].mean(dtype=np.float64) for one in there])
    judged = [PerRow({"share": mean_of(label[one].astype(np.float64))}, grouped(dense(owner[one]))) for one in there]
    observed = np.array([one.means()["share"] for one in judged], np.float64)
    low, high = np.array([one.intervals(seed)["share"] or (np.nan, np.nan) for one in judged]).reshape(-1, 2).T
    error = expected_calibration_error(rows, predicted, observed)
    return Calibration(rows, predicted, observed, low, high, error, error_by_chance(probability, found))
