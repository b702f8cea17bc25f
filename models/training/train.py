"""Training: a plain loop over in-memory index tensors, early stopping on validation, history per epoch."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from core.artifacts import code_digest, fingerprint, is_current, new_folder, package_versions, read_manifest, verify
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import PROTOCOLS, Run
from models.data.batches import Batches
from models.data.features import Features, load_features
from models.data.history import Timeline, joined, timeline
from models.networks.base import Recommender, branches, build
from models.networks.scoring import MONITOR, SIGN, validator
from models.training import checkpoint
from models.training.checkpoint import Progress, Trainee
from models.training.epoch import Advance, make_trainee, train_epoch
from models.training.settings import LARGE, TrainSettings, pick_precision
from workflows.splits.base import split_files

CONFIG_FORMAT = 2

Watch = Callable[[int, float], None]


def threads_for_scoring(run: Run) -> int:
    """As many as the run's models were trained with: what scores a few users at a time gains nothing from more."""
    rows = max(training_rows(run, protocol) for protocol in PROTOCOLS)
    return (os.cpu_count() or 1) if rows >= LARGE else 1


def training_rows(run: Run, protocol: str) -> int:
    """How many training ratings `prepare` wrote for a protocol."""
    files = split_files(run.features_of(protocol), "train")
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def samples_per_epoch(rows: int, protocol: str, settings: TrainSettings) -> int:
    """How many samples an epoch trains on: rows, and in leave-one-out their negatives."""
    return rows * (1 + settings.negatives) if protocol == "leave-one-out" else rows


def train(
    run: Run,
    protocol: str,
    name: str,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    target: Path | None = None,
) -> dict[str, Any] | None:
    """Trains one model and writes `models/<protocol>/<model>/`; does nothing where it is there and up to date.

    Training that was killed goes on after its last whole epoch, and ends with the same weights as if it had not been.

    Args:
        advance: told the samples done, and after each epoch a note.
        target: another folder to write.

    Returns:
        The configuration written, or None where there was nothing to do.

    Raises:
        UserError: no features, or a loss that is not a number.
    """
    settings = replace(settings, precision=pick_precision(settings.precision, device))
    manifest = read_manifest(run.features_of(protocol), run.command("prepare"))
    made_from = fingerprint(
        features=manifest["fingerprint"],
        protocol=protocol,
        settings=asdict(settings),
        code=code_digest(("models",), ("torch", "numpy", "merlin-models")),
        device=device.type,
    )
    target = target or run.model(protocol, name)
    kept = Kept(checkpoint.folder_of(target), made_from)
    again = Kept(checkpoint.folder_of(target.with_name(f"{target.name}-refit")), made_from)
    if is_current(target, made_from):
        checkpoint.remove(kept.folder)  # of a training that was killed at its very end
        checkpoint.remove(again.folder)
        return None
    features = load_features(run, protocol)
    model = build(name, features, settings.network, settings.seed).to(device)
    history, best = fit(model, features, settings, device, advance, kept)
    epochs = list(history)
    if settings.refit:
        model = build(name, features, settings.network, settings.seed, known=("train", "valid")).to(device)
        epochs += refit(model, features, settings, best, device, advance, again)
    seconds = sum(epoch["seconds"] for epoch in epochs)
    config = {
        "format": CONFIG_FORMAT,
        "model": name,
        "protocol": protocol,
        "dataset": manifest["dataset"],
        "settings": asdict(settings),
        "seed": settings.seed,
        "epochs": len(history),
        "best_epoch": best,
        "monitor": MONITOR[protocol],
        "validation": {key: value for key, value in history[best - 1].items() if key not in ("epoch", "seconds")},
        "trained_on": list(known_to(settings)),
        "train_seconds": round(seconds, 3),
        "samples_per_second": round(sum(epoch["samples"] for epoch in epochs) / seconds),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }
    with new_folder(target, made_from, features=manifest["fingerprint"]) as out:
        save_file(
            {key: value.cpu().contiguous() for key, value in model.state_dict().items()}, out / "weights.safetensors"
        )
        write_json(out / "config.json", config)
        write_json(out / "history.json", history)
    checkpoint.remove(kept.folder)
    checkpoint.remove(again.folder)
    return config


def known_to(settings: TrainSettings) -> tuple[str, ...]:
    """The splits that the final weights were trained on."""
    return ("train", "valid") if settings.refit else ("train",)


def device_name(device: torch.device) -> str:
    """The hardware in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"


def load(
    run: Run, features: Features, name: str, device: torch.device, folder: Path | None = None
) -> tuple[Recommender, dict[str, Any]]:
    """A trained model in evaluation mode, and its configuration.

    Args:
        folder: where it lies, if not in its place in the run.

    Raises:
        UserError: it is missing, has changed, or was trained on other features than these.
    """
    folder = folder or run.model(features.protocol, name)
    manifest = verify(folder, run.command("train"))
    if manifest.get("features") != features.fingerprint:
        raise UserError(f"{folder} was trained on other features than those in {features.folder}; run train again")
    config = read_json(folder / "config.json")
    if config["format"] != CONFIG_FORMAT:
        raise UserError(f"{folder} was written by another version of Marquee; run train again")
    settings = TrainSettings.of(config["settings"])
    model = build(name, features, settings.network, config["seed"], known_to(settings))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.to(device).eval(), config


@dataclass(frozen=True)
class Kept:
    """Where `fit` keeps its checkpoint, and the fingerprint of the training that it belongs to."""

    folder: Path
    made_from: str


@dataclass
class Course:
    """One training: its samples, and what it changes."""

    batches: Batches
    trainee: Trainee
    settings: TrainSettings
    device: torch.device
    trained: dict[str, list[int]]  # `Recommender.reserved_rows` of the training rows
    timeline: Timeline | None

    @classmethod
    def of(
        cls,
        model: Recommender,
        features: Features,
        settings: TrainSettings,
        device: torch.device,
        parts: tuple[str, ...],
    ) -> "Course":
        rows = joined([features.interactions(part) for part in parts])
        trained = model.reserved_rows(*(torch.unique(index).long().to(device) for index in (rows.user, rows.movie)))
        past = timeline(features, parts, model.now_movies.shape[1]) if model.uses_moments else None
        places = past.places(rows) if past else None
        size, drawn, recency = settings.batch_size, settings.negatives, settings.recency
        batches = Batches(rows, features, device, size, drawn, recency, settings.seed, past, places)
        return cls(batches, make_trainee(model, settings, device), settings, device, trained, past)

    def epoch(self, number: int, advance: Advance) -> dict[str, Any]:
        """Trains for an epoch; returns its row of the history."""
        start = time.perf_counter()
        loss = train_epoch(self.trainee, self.batches, number, self.settings, self.device, advance)
        seconds = time.perf_counter() - start
        weights = self.trainee.model.parameters()
        if not (np.isfinite(loss) and all(bool(weight.isfinite().all()) for weight in weights)):
            raise UserError(f"training broke down in epoch {number}, with a loss of {loss}; lower --learning-rate")
        self.trainee.mean.module.fill_reserved_rows(self.trained)
        return {"epoch": number, "train_loss": loss, "samples": self.batches.samples, "seconds": seconds}

    def resume(self, kept: Kept | None, advance: Advance) -> Progress:
        """Where a training that was killed stood; pretrains one that has not started."""
        progress = kept and checkpoint.restore(kept.folder, kept.made_from, self.trainee)
        if progress and progress.history:
            done = len(progress.history)
            advance(done * self.batches.samples, f"goes on after epoch {done}, where it was stopped")
            return progress
        if self.settings.pretraining:
            pretrain(self, advance)
        return Progress()


def fit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    kept: Kept | None = None,
    watch: Watch | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Trains in place and leaves the weights of the epoch that validated best.

    Args:
        kept: where a checkpoint is written after each epoch, and looked for at the start; None for none.
        watch: told each epoch and its validation metric; what it raises ends the training.

    Returns:
        A row per epoch (loss and validation metrics, samples and seconds of training), and the best epoch, from 1.

    Raises:
        UserError: the loss or a weight is not a finite number any more.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _fit(model, features, settings, device, advance, kept, watch)


def _fit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    kept: Kept | None,
    watch: Watch | None,
) -> tuple[list[dict[str, Any]], int]:
    course = Course.of(model, features, settings, device, ("train",))
    validate = validator(features, device, course.timeline)
    monitor = MONITOR[features.protocol]
    sign = SIGN[monitor]
    progress = course.resume(kept, advance)
    while len(progress.history) < settings.epochs and len(progress.history) - progress.best < settings.patience:
        row = course.epoch(len(progress.history) + 1, advance)
        judged = course.trainee.mean.module
        metrics = validate(judged)
        progress.history.append({**row, **metrics})
        if sign * metrics[monitor] > (
            sign * progress.history[progress.best - 1][monitor] if progress.best else -np.inf
        ):
            progress.best = row["epoch"]
            progress.best_weights = {key: value.clone() for key, value in judged.state_dict().items()}
        advance(0, f"epoch {row['epoch']}: loss {row['train_loss']:.4f}, validation {monitor} {metrics[monitor]:.4f}")
        if kept:
            checkpoint.save(kept.folder, kept.made_from, course.trainee, progress)
        if watch:
            watch(row["epoch"], metrics[monitor])
    course.trainee.rowwise.release()
    if not progress.best:
        raise UserError(f"{monitor} cannot be judged: the validation rows of {features.folder} all have the same label")
    model.load_state_dict(progress.best_weights)
    return progress.history, progress.best


def refit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    epochs: int,
    device: torch.device,
    advance: Advance,
    kept: Kept | None = None,
) -> list[dict[str, Any]]:
    """Trains a fresh model in place for so many epochs, on train and validation rows together.

    Returns:
        A row per epoch: loss, samples and seconds.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        course = Course.of(model, features, settings, device, ("train", "valid"))
        progress = course.resume(kept, advance)
        while len(progress.history) < epochs:
            row = course.epoch(len(progress.history) + 1, advance)
            progress.history.append(row)
            advance(0, f"with validation rows, epoch {row['epoch']} of {epochs}: loss {row['train_loss']:.4f}")
            if kept:
                checkpoint.save(kept.folder, kept.made_from, course.trainee, progress)
        course.trainee.rowwise.release()
        model.load_state_dict(course.trainee.mean.module.state_dict())
    return progress.history


def pretrain(course: Course, advance: Advance) -> None:
    """Trains NCF's two branches apart, and joins them: He et al., 2017, section 3.4.1, with both weighing a half."""
    model = course.trainee.model
    settings = replace(course.settings, epochs=course.settings.pretraining)
    heads = []
    torch.manual_seed(settings.seed)
    for branch in branches(model):
        trainee = make_trainee(branch.to(course.device), settings, course.device)
        for number in range(1, settings.pretraining + 1):
            loss = train_epoch(trainee, course.batches, number, settings, course.device, lambda *_: None)
            advance(0, f"a branch of NCF alone, epoch {number}: loss {loss:.4f}")
        trainee.rowwise.release()
        branch.load_state_dict(trainee.mean.module.state_dict())  # the modules are NCF's own
        heads.append(branch.head())
    with torch.no_grad():
        model.head().weight.copy_(torch.cat([head.weight for head in heads], dim=1) / 2)
        model.head().bias.copy_(sum(head.bias for head in heads) / 2)
    course.trainee = make_trainee(model, course.settings, course.device)
