"""Temperature and shift: makes probabilities of scores, on validation (Platt, "Probabilistic Outputs for Support Vector
Machines", 1999; Guo et al., "On Calibration of Modern Neural Networks", 2017). No order of scores changes."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from models.data.features import Features
from models.data.history import Timeline
from models.evaluation.scorers import network_scorer
from models.networks.base import Recommender
from models.protocols.base import PROTOCOLS

LEAST, MOST = 1e-30, 1 - 1e-7  # probabilities as float32 has them


@torch.no_grad()
def calibrate(model: Recommender, features: Features, device: torch.device, past: Timeline | None) -> None:
    """Sets the scale and the offset of a trained model's scores, so that they fit what happened in validation best.

    Leaves them as they are where the protocol's answers are no probabilities, where validation has one label only, and
    where higher scores go with fewer positives.

    Args:
        past: what the model may know, or None where it sees no history.
    """
    protocol = PROTOCOLS[features.protocol]
    scorer = network_scorer(model, device, protocol.name, past)
    found = protocol.examples(scorer, protocol.questions(features, "valid"))
    if found is None or len(np.unique(found.label)) < 2:
        return
    probability = np.clip(found.score.astype(np.float64), LEAST, MOST)
    logit = np.log(probability) - np.log1p(-probability)
    fitted = LogisticRegression(C=np.inf).fit(logit[:, None], found.label, found.weight)
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if scale > 0:
        model.offset.mul_(scale).add_(shift)
        model.scale.mul_(scale)


def calibrate_as(model: Recommender, other: Recommender) -> None:
    """Gives a model that was trained again on validation rows too the calibration of the one that was not."""
    model.scale.copy_(other.scale)
    model.offset.copy_(other.offset)
