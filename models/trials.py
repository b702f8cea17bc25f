"""One trial of a study: a model is trained or fitted with some settings, and judged on validation."""

import time
from dataclasses import dataclass
from typing import Any

import optuna
import torch

from core.errors import UserError
from models import registry
from models.data.features import Features
from models.evaluation.judgement import means_of, scorer_of
from models.networks.base import NETWORKS, build
from models.protocols.base import PROTOCOLS
from models.training.loop import FIT, Callbacks, fit
from models.training.settings import TrainSettings


class Cut(Exception):
    """The seconds of a study were used up before the trial came to its end."""


@dataclass(kw_only=True)
class Watch:
    """Looks at a network after each epoch.

    Attributes:
        never_pruned: for what a study starts with.
        deadline: of `time.perf_counter`, past which the trial is cut.
        epochs: how many there were; None for a baseline.
    """

    trial: optuna.Trial
    never_pruned: bool
    deadline: float
    epochs: int | None = None

    def after(self, epoch: int, value: float, last: int) -> None:
        """
        Args:
            epoch: from 1.
            value: the validation metric after it.
            last: the epoch after which the trial is at its end anyway.

        Raises:
            TrialPruned: the trial is behind the others.
            Cut: it is past the deadline.
        """
        self.epochs = epoch
        self.trial.report(value, epoch)
        if not self.never_pruned and self.trial.should_prune():
            raise optuna.TrialPruned
        if epoch < last and time.perf_counter() >= self.deadline:
            raise Cut


def trained_value(
    features: Features, name: str, settings: TrainSettings, device: torch.device, callbacks: Callbacks
) -> float:
    """A network's validation metric in its best epoch.

    Raises:
        UserError: training broke down.
    """
    model = build(name, features, settings.network, settings.seed).to(device)
    history, best = fit(model, features, settings, device, callbacks)
    return float(history[best - 1][PROTOCOLS[features.protocol].monitor])


def validated_value(
    features: Features, name: str, settings: Any, seed: int, device: torch.device, watch: Watch
) -> float:
    """A model's validation metric with a trial's settings.

    Args:
        seed: of a baseline; a network's is in its settings.

    Raises:
        TrialPruned, Cut: as `Watch.after`.
        UserError: training broke down, or the metric is undefined.
    """
    protocol = PROTOCOLS[features.protocol]
    if name in NETWORKS:
        callbacks = Callbacks(watch=lambda epoch, value: watch.after(epoch, value, settings.epochs))
        return trained_value(features, name, settings, device, callbacks)
    score = registry.fit_baseline(name, features, FIT, settings, seed)
    value = means_of(protocol.judge(scorer_of(score), protocol.questions(features, "valid")))[protocol.monitor]
    if value is None:
        raise UserError(f"{protocol.monitor} is undefined")
    return value
