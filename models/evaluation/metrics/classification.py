"""Metrics of scores that separate rows with label 1 from rows with label 0."""

import numpy as np

from models.evaluation.metrics.base import Metric, RowStatistic, add, mean_of, refuse_other_shapes

CALIBRATION_BINS = 15


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    Args:
        label: [n], 0 or 1.
        score: float [n].

    Returns:
        NaN where there are only positives or only negatives.

    Raises:
        ValueError: a score is not a number, or the shapes differ.

    >>> auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    0.875
    """
    positive = label > 0
    return float(placements(label, score)[positive].mean()) if positive.any() and not positive.all() else float("nan")


def placements(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The share of the rows of the other label that a row is on the right side of, a tie counting half: float64 [n].

    For a positive the negatives that score below it, for a negative the positives that score above it. Their mean over
    either label is the AUC (DeLong et al., "Comparing the Areas under Two or More Correlated ROC Curves", 1988).
    Arguments and errors as in `auc`; 0 where there are no rows of the other label.

    >>> placements(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])).tolist()
    [1.0, 0.75, 0.75, 1.0]
    """
    refuse_other_shapes(label, score)
    if np.isnan(score).any():
        raise ValueError("a score is not a number")
    order = np.argsort(score, kind="stable")
    ordered, positive = score[order], label[order] > 0
    group = np.cumsum(np.append(False, ordered[1:] != ordered[:-1])) if len(score) else np.empty(0, int)
    positives, negatives = np.bincount(group, positive), np.bincount(group, ~positive)
    below = (np.cumsum(negatives) - negatives / 2) / max(negatives.sum(), 1)
    above = (positives.sum() - np.cumsum(positives) + positives / 2) / max(positives.sum(), 1)
    share = np.empty(len(score))
    share[order] = np.where(positive, below[group], above[group])
    return share


def log_losses(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability given to what happened: float64 [n]; probabilities clipped at 1e-7."""
    refuse_other_shapes(label, probability)
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.where(label > 0, np.log(p), np.log1p(-p))


def auc_statistic(label: np.ndarray, score: np.ndarray) -> RowStatistic:
    """The AUC to first order in the rows' weights: one sort for all resamples.

    From each row's share of the other label's rows that it is on the right side of (Obuchowski, "Nonparametric Analysis
    of Clustered ROC Curve Data", 1997).
    """
    positive = label > 0
    share = placements(label, score)
    sums = np.stack([positive, ~positive, share * positive, share * ~positive], axis=1)

    def of_sums(total: np.ndarray) -> float:
        positives, negatives, of_positives, of_negatives = total
        with np.errstate(invalid="ignore"):  # a resample without positives has no AUC
            return of_positives / positives + of_negatives / negatives

    one_label = "" if positive.any() and not positive.all() else "the rows all have the same label"
    return RowStatistic(sums.astype(np.float64), of_sums, -auc(label, score), one_label)


def calibration_gaps(label: np.ndarray, probability: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """What each row adds to the expected calibration error, whose value is their mean: float64 [n].

    The rows are put in `bins` bins of about equally many by their probability; equal probabilities stay together. With
    s(b) = 1 where the mean probability of bin b is above its share of positives, else -1, a row adds
    s(b) * (probability - label), so that the mean over rows is

        ECE = sum over bins of (rows in b) / n * |mean probability in b - share of positives in b|

    (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015; bins of equal mass as in
    Nixon et al., "Measuring Calibration in Deep Learning", 2019). Chance alone puts the value above 0, by about 0.4 /
    sqrt(rows in a bin) where half of the labels are positive.

    >>> calibration_gaps(np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9]), bins=2).round(3).tolist()
    [-0.2, 0.8, 0.1, 0.1]
    """
    refuse_other_shapes(label, probability)
    gap = probability.astype(np.float64) - (label > 0)
    ordered = np.sort(probability)
    starts = np.unique(ordered[np.arange(bins) * len(ordered) // bins]) if len(ordered) else ordered
    place = np.searchsorted(starts, probability, side="right") - 1
    over = np.bincount(place, gap, minlength=len(starts)) > 0
    return np.where(over[place], gap, -gap) if len(gap) else gap


add("auc", Metric(task="classification", title="AUC", per_row=auc_statistic), position=10)
add(
    "log_loss",
    Metric(
        task="classification",
        title="log loss",
        higher_is_better=False,
        per_row=lambda label, score: mean_of(log_losses(label, score)),
        needs_probability=True,
    ),
    position=20,
)
add(
    "ece",
    Metric(
        task="classification",
        title="ECE",
        higher_is_better=False,
        in_tables=False,
        # Bins and signs stay as they are in all rows, so that an interval is to first order, as that of the AUC.
        per_row=lambda label, score: mean_of(calibration_gaps(label, score)),
        needs_probability=True,
    ),
    position=30,
)
