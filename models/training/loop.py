"""The training loop: early stopping on validation, and training again on train and validation together."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.errors import UserError
from core.torchrun import rank
from models.data.batches import Batches, Sampling
from models.data.features import Features
from models.data.history import Timeline
from models.data.interactions import joined
from models.data.sequences import SequenceBatches
from models.evaluation.judgement import Asked, Judgement, Scorer, Values, means_of, undefined_in
from models.evaluation.metrics.base import plain_name
from models.evaluation.scorers import network_scorer, past_of
from models.networks.base import NETWORKS, Recommender
from models.protocols.base import PROTOCOLS
from models.training.calibration import calibrate
from models.training.checkpoint import Checkpoint, Progress, Trainee
from models.training.epoch import Advance, Task, make_trainee, train_epoch
from models.training.frameworks import steps_of
from models.training.objective import SOFTMAX_OFFSET, EachSample, Objective, SharedSoftmax
from models.training.pretrain import pretrain
from models.training.settings import TrainSettings
from models.training.several import agreed

FIT, REFIT = ("train",), ("train", "valid")  # the splits that the two trainings learn from


def no_advance(by: float, note: str) -> None:
    """Reports nothing."""


def no_record(row: dict[str, Any]) -> None:
    """Records nothing."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What a training calls while it runs.

    Attributes:
        advance: reported the samples done, and after each epoch a note.
        record: given the row of each epoch as it ends; where a training resumes, first those of the epochs before.
        watch: given each epoch and its validation metric; what it raises ends the training.
        checkpoint: written after each epoch, and looked for at the start; None for none.
    """

    advance: Advance = no_advance
    record: Callable[[dict[str, Any]], None] = no_record
    watch: Callable[[int, float], None] | None = None
    checkpoint: Checkpoint | None = None


def samples_per_epoch(rows: int, protocol: str, settings: TrainSettings) -> int:
    """How many samples an epoch trains on, at most: rows, and where negatives are drawn for each, those too."""
    has_own = PROTOCOLS[protocol].draws_negatives and not settings.shared_negatives
    return rows * (1 + settings.negatives) if has_own else rows


def fit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    device: torch.device,
    callbacks: Callbacks = Callbacks(),
) -> tuple[list[dict[str, Any]], int]:
    """Trains in place and leaves the weights of the epoch that validated best, calibrated on validation.

    Where the protocol can do without validation and its monitor is undefined, all epochs are trained and the last one
    is the best.

    Returns:
        A row per epoch (loss and validation metrics, samples and seconds of training), and the best epoch, from 1.

    Raises:
        UserError: the loss or a weight is not a finite number any more, or validation is needed and says nothing.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        loop = TrainingLoop(model, features, settings, device, parts=FIT, callbacks=callbacks)
        validate = _validation(features, device, loop.past)
        protocol = PROTOCOLS[features.protocol]
        metric = protocol.monitor
        sign = protocol.metric(metric).sign
        progress = loop.start()
        history = progress.history
        while len(history) < settings.epochs and len(history) - progress.best < settings.patience:
            row = loop.epoch(len(history) + 1)
            mean = loop.trainee.mean.module
            judged = validate(mean)
            metrics = means_of(judged)
            value = agreed(metrics[metric], device)
            best = history[progress.best - 1][metric] if progress.best else None
            history.append({**row, **metrics})
            callbacks.record(history[-1])
            if value is None and not progress.best and protocol.needs_validation:
                reason = undefined_in(judged)[metric]
                raise UserError(
                    f"{metric} cannot be judged on the validation rows of {features.folder}: {reason}; "
                    "choose another --protocol, or add ratings"
                )
            if best is None or (value is not None and sign * value > sign * best):
                progress.best = row["epoch"]
                progress.best_weights = {key: weight.clone() for key, weight in mean.state_dict().items()}
            loss = f"epoch {row['epoch']}: loss {row['train_loss']:.4f}"
            callbacks.advance(0, f"{loss}, validation {metric} {'undefined' if value is None else f'{value:.4f}'}")
            loop.save(progress)
            if callbacks.watch and value is not None:
                callbacks.watch(row["epoch"], value)
        loop.trainee.rowwise.release()
        model.load_state_dict(progress.best_weights)
        calibrate(model, features, device, loop.past)
    return history, progress.best


def refit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    epochs: int,
    device: torch.device,
    callbacks: Callbacks = Callbacks(),
) -> list[dict[str, Any]]:
    """Trains a fresh model in place for so many epochs, on train and validation rows together.

    Returns:
        A row per epoch: loss, samples and seconds.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        loop = TrainingLoop(model, features, settings, device, parts=REFIT, callbacks=callbacks)
        progress = loop.start()
        while len(progress.history) < epochs:
            row = loop.epoch(len(progress.history) + 1)
            progress.history.append(row)
            callbacks.record(row)
            callbacks.advance(
                0, f"with validation rows, epoch {row['epoch']} of {epochs}: loss {row['train_loss']:.4f}"
            )
            loop.save(progress)
        loop.trainee.rowwise.release()
        model.load_state_dict(loop.trainee.mean.module.state_dict())
    return progress.history


class TrainingLoop:
    """One training: its samples, what it changes, and its checkpoint."""

    def __init__(
        self,
        model: Recommender,
        features: Features,
        settings: TrainSettings,
        device: torch.device,
        *,
        parts: tuple[str, ...],
        callbacks: Callbacks,
    ):
        """
        Args:
            parts: the splits that it learns from.
        """
        protocol = PROTOCOLS[features.protocol]
        rows = joined([features.interactions(part) for part in parts])
        users, movies = (torch.unique(index).long().to(device) for index in (rows.user, rows.movie))
        self.trained_rows = model.reserved_rows(users, movies)
        self.past: Timeline | None = past_of(model, features, parts)
        sampling = Sampling(
            batch_size=settings.batch_size,
            negatives=settings.negatives if protocol.draws_negatives else 0,
            shared_negatives=settings.shared_negatives if protocol.draws_negatives else 0,
            popularity=settings.popularity,
            recency=settings.recency,
            recency_draws=settings.recency_draws,
            seed=settings.seed,
        )
        self.network, self.callbacks = NETWORKS[model.name], callbacks
        of_batches = SequenceBatches if self.network.learns_sequences else Batches
        batches = of_batches(rows, features.rated_movies, sampling, device, past=self.past)
        objective: Objective = EachSample(protocol.loss)
        if sampling.shared_negatives or self.network.learns_sequences:
            objective = SharedSoftmax()
            model.offset.fill_(SOFTMAX_OFFSET)
        self.task = Task(
            batches=batches,
            objective=objective,
            settings=settings,
            device=device,
            steps=steps_of(settings.framework, features),
        )
        self.trainee: Trainee = make_trainee(model, settings, device)

    def start(self) -> Progress:
        """Where a training that was killed stood; pretrains one that has not started."""
        checkpoint = self.callbacks.checkpoint
        progress = checkpoint.restore(self.trainee) if checkpoint else None
        if progress and progress.history:
            done = len(progress.history)
            self.callbacks.advance(
                done * self.task.batches.samples_at_most, f"resumes after epoch {done}, where it was stopped"
            )
            for row in progress.history:
                self.callbacks.record(row)
            return progress
        if self.task.settings.pretraining:
            self.trainee = pretrain(self.network, self.trainee, self.task, self.callbacks.advance)
        return Progress()

    def epoch(self, number: int) -> dict[str, Any]:
        """Trains for an epoch; returns its row of the history.

        Raises:
            UserError: the loss or a weight is not a finite number any more.
        """
        start = time.perf_counter()
        loss = train_epoch(self.trainee, self.task, number, self.callbacks.advance)
        seconds = time.perf_counter() - start
        weights = self.trainee.model.parameters()
        if not (np.isfinite(loss) and all(bool(weight.isfinite().all()) for weight in weights)):
            raise UserError(f"training broke down in epoch {number}, with a loss of {loss}; lower --learning-rate")
        self.trainee.mean.module.fill_reserved_rows(self.trained_rows)
        return {"epoch": number, "train_loss": loss, "samples": self.task.batches.samples, "seconds": seconds}

    def save(self, progress: Progress) -> None:
        """Writes the checkpoint, where there is one."""
        if self.callbacks.checkpoint and not rank():
            self.callbacks.checkpoint.save(self.trainee, progress)


def validator(features: Features, device: torch.device, past: Timeline | None) -> Callable[[Recommender], Values]:
    """A function that judges a model by the validation split of the features' protocol."""
    validate = _validation(features, device, past)
    return lambda model: means_of(validate(model))


def _validation(
    features: Features, device: torch.device, past: Timeline | None
) -> Callable[[Recommender], list[Judgement]]:
    protocol = PROTOCOLS[features.protocol]
    questions = protocol.questions(features, "valid")
    return lambda model: protocol.judge(network_scorer(model, device, protocol.name, past), questions)


def undefined_in_validation(features: Features) -> dict[str, str]:
    """Why metrics are undefined on the validation rows of the features' protocol whatever the model, by their names."""
    protocol = PROTOCOLS[features.protocol]

    def pairs(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        return np.zeros(len(user), np.float32)

    constant = Scorer(lambda _: Asked(pairs), lambda rows: np.zeros(len(rows), np.float32), is_probability=True)
    found = undefined_in(protocol.judge(constant, protocol.questions(features, "valid")))
    return {name: reason for name, reason in found.items() if plain_name(name) in protocol.metrics}
