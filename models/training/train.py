"""Training one model: its files in the run folder, and loading it again."""

from collections.abc import Mapping
from dataclasses import asdict, field
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file, save_file

from core.artifacts import (
    fingerprint,
    is_current,
    library_versions,
    new_folder,
    package_versions,
    read_manifest,
    verify,
)
from core.errors import UserError
from core.json_files import STRICT, read_json, validated, write_json
from core.run_folder import Run
from core.stage_code import stage_code
from core.torchrun import rank
from models.data.features import Features
from models.data.load import load_features
from models.networks.base import NETWORKS, Recommender, build
from models.protocols.base import PROTOCOLS, preparing
from models.training.calibration import calibrate_as
from models.training.checkpoint import Checkpoint
from models.training.devices import device_name
from models.training.epoch import Advance
from models.training.frameworks import require_agreement, require_framework, resolved
from models.training.loop import FIT, REFIT, Callbacks, fit, no_record, refit, undefined_in_validation
from models.training.settings import TENSORFLOW, TrainSettings, from_json
from models.training.several import wait_for_all

if TYPE_CHECKING:
    from models.training.events import Events

CONFIG_FORMAT = 2
WEIGHTS, CONFIG, HISTORY = "weights.safetensors", "config.json", "history.json"
# What a trained model depends on, besides the files of its network and its protocol, and its settings.
ROOMS = (
    "core/constants.py",
    "models/data",
    "models/evaluation/judgement.py",
    "models/evaluation/metrics",
    "models/evaluation/ranking.py",
    "models/evaluation/scorers.py",
    "models/networks/_blocks.py",
    "models/networks/_pooled.py",
    "models/networks/base.py",
    "models/protocols/base.py",
    "models/protocols/binary.py",
    "models/tensorflow",
    "models/training",
    "workflows/features/config.py",
    "workflows/features/schema.py",
    "workflows/features/statistics.py",
    "workflows/features/vocabulary.py",
    "workflows/negatives.py",
    "workflows/splits/base.py",
)
TENSORFLOW_PACKAGES = ("tensorflow-cpu", "tensorflow")  # one or the other
LIBRARIES = ("torch", "merlin-models", "merlin-core", "merlin-dataloader", "numpy", "numba", "scikit-learn")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrainedConfig:
    """`config.json`: how a model was trained, and what came of it.

    Attributes:
        format: of this file.
        settings: every setting, the network's under `network`.
        epochs: how many were trained with early stopping, of which `best_epoch` (from 1) validated best.
        monitor: the metric that validation chose by.
        validation: the loss and the validation metrics of the best epoch; None where a metric is undefined.
        undefined: why those metrics are None, by their names.
        trained_on: the splits that the weights were trained on.
        samples_per_second: over all epochs, the refitting too.
        weights: how many numbers were trained.
    """

    format: int
    model: str
    protocol: str
    dataset: str
    settings: dict[str, Any]
    seed: int
    epochs: int
    best_epoch: int
    monitor: str
    validation: dict[str, float | None]
    undefined: dict[str, str] = field(default_factory=dict)
    trained_on: list[str]
    train_seconds: float
    samples_per_second: int
    weights: int
    device: str
    threads: int
    versions: dict[str, str]


def train(
    run: Run,
    protocol: str,
    name: str,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    *,
    target: Path | None = None,
    events: "Events | None" = None,
) -> TrainedConfig | None:
    """Trains one model and writes `models/<protocol>/<model>/`; does nothing where it is there and up to date.

    Training that was killed resumes after its last whole epoch, and ends with the same weights as if it had not been.

    Args:
        advance: reported the samples done, and after each epoch a note.
        target: another folder to write.
        events: given every epoch, also those of a model that is up to date; None for no events.

    Returns:
        The configuration written, or None where there was nothing to do.

    Raises:
        UserError: no features, or a loss that is not a number.
    """
    settings, device = resolved(settings, device)
    require_framework(name, settings)
    wait_for_all()  # what is looked for may be written by the first process
    made_from, features_from = _made_from(run, protocol, name, settings, device)
    target = target or run.model(protocol, name)
    fitting = Checkpoint.beside(target, made_from)
    refitting = Checkpoint.beside(target.with_name(f"{target.name}-refit"), made_from)
    record, record_refit = (events.fitted, events.refitted) if events else (no_record, no_record)
    if is_current(target, made_from):
        if not rank():
            fitting.remove()  # of a training that was killed at its very end
            refitting.remove()
        for row in read_json(target / HISTORY):
            record(row)
        return None
    callbacks = (
        Callbacks(advance=advance, record=record, checkpoint=fitting),
        Callbacks(advance=advance, record=record_refit, checkpoint=refitting),
    )
    trained = _train(load_features(run, protocol), name, settings, device, callbacks)
    require_agreement(trained.model, trained.features, settings)
    config = _config(trained, settings, device)
    if rank():  # the first process writes
        return config
    with new_folder(target, made_from, features=features_from) as out:
        weights = {key: value.cpu().contiguous() for key, value in trained.model.state_dict().items()}
        save_file(weights, out / WEIGHTS)
        write_json(out / CONFIG, asdict(config))
        write_json(out / HISTORY, trained.history)
    fitting.remove()
    refitting.remove()
    return config


def is_trained(
    run: Run, protocol: str, name: str, settings: TrainSettings, device: torch.device, target: Path | None = None
) -> bool:
    """Whether `train` has nothing to do; arguments as there.

    Raises:
        UserError: no features.
    """
    settings, device = resolved(settings, device)
    made_from, _ = _made_from(run, protocol, name, settings, device)
    return is_current(target or run.model(protocol, name), made_from)


def _made_from(run: Run, protocol: str, name: str, settings: TrainSettings, device: torch.device) -> tuple[str, str]:
    """The fingerprints of all that a model is made from, and of the features alone."""
    manifest = read_manifest(run.features_of(PROTOCOLS[protocol].split), run.command(preparing(protocol)))
    made_from = fingerprint(
        features=manifest["fingerprint"],
        protocol=protocol,
        settings=asdict(settings),
        code=training_digest(protocol, name, settings.framework),
        device=device.type,
    )
    return made_from, manifest["fingerprint"]


@plain_dataclass(frozen=True, kw_only=True)
class _Trained:
    """A model that was trained just now.

    Attributes:
        history: a row per epoch of the training with early stopping, of which `best` (from 1) validated best.
        epochs: the rows of all epochs, those of refitting too.
    """

    model: Recommender
    features: Features
    history: list[dict[str, Any]]
    best: int
    epochs: list[dict[str, Any]]


def _train(
    features: Features,
    name: str,
    settings: TrainSettings,
    device: torch.device,
    callbacks: tuple[Callbacks, Callbacks],
) -> _Trained:
    """Finds the best epoch on validation and, where the settings say so, trains again on validation rows too."""
    fitting, refitting = callbacks
    model = build(name, features, settings.network, settings.seed).to(device)
    history, best = fit(model, features, settings, device, fitting)
    epochs = list(history)
    if settings.refit:
        fitted = model
        model = build(name, features, settings.network, settings.seed, known=REFIT).to(device)
        epochs += refit(model, features, settings, best, device, refitting)
        calibrate_as(model, fitted)
    return _Trained(model=model, features=features, history=history, best=best, epochs=epochs)


def _config(trained: _Trained, settings: TrainSettings, device: torch.device) -> TrainedConfig:
    best = trained.history[trained.best - 1]
    seconds = sum(epoch["seconds"] for epoch in trained.epochs)
    validation = {key: value for key, value in best.items() if key not in ("epoch", "seconds")}
    return TrainedConfig(
        format=CONFIG_FORMAT,
        model=trained.model.name,
        protocol=trained.features.protocol,
        dataset=trained.features.dataset,
        settings=asdict(settings),
        seed=settings.seed,
        epochs=len(trained.history),
        best_epoch=trained.best,
        monitor=PROTOCOLS[trained.features.protocol].monitor,
        validation=validation,
        undefined=undefined_in_validation(trained.features) if None in validation.values() else {},
        trained_on=list(known_to(settings)),
        train_seconds=round(seconds, 3),
        samples_per_second=round(sum(epoch["samples"] for epoch in trained.epochs) / seconds),
        weights=sum(parameter.numel() for parameter in trained.model.parameters()),
        device=device_name(device),
        threads=torch.get_num_threads(),
        versions=package_versions() | (_of_tensorflow() if settings.framework == TENSORFLOW else {}),
    )


def training_digest(protocol: str, name: str, framework: str = "") -> str:
    """Of the code and the libraries that a trained model depends on: those of other networks play no part."""
    libraries = (*LIBRARIES, *(TENSORFLOW_PACKAGES if framework == TENSORFLOW else ()))
    return stage_code(ROOMS, libraries, {name: NETWORKS[name]}, {protocol: PROTOCOLS[protocol]})


def _of_tensorflow() -> dict[str, str]:
    return {name: version for name, version in library_versions(TENSORFLOW_PACKAGES).items() if version}


def known_to(settings: TrainSettings) -> tuple[str, ...]:
    """The splits that the final weights were trained on."""
    return REFIT if settings.refit else FIT


def read_config(folder: Path, command: str = "") -> TrainedConfig:
    """The configuration of a trained model.

    Args:
        command: the command line that trains it again, for the message.

    Raises:
        UserError: there is none, another version of Marquee wrote it, or it is not of the known form.
    """
    path = folder / CONFIG
    values = read_json(path)
    if not isinstance(values, Mapping) or values.get("format") != CONFIG_FORMAT:
        again = f"; run again: {command}" if command else ""
        raise UserError(f"{folder} was written by another version of Marquee{again}")
    return validated(TrainedConfig, values, str(path), command)


def load(
    run: Run, features: Features, name: str, device: torch.device, folder: Path | None = None
) -> tuple[Recommender, TrainedConfig]:
    """A trained model in evaluation mode, and its configuration.

    Args:
        folder: where it lies, if not in its place in the run.

    Raises:
        UserError: it is missing, has changed, or was trained on other features than these.
    """
    folder = folder or run.model(features.protocol, name)
    command = run.command("train")
    manifest = verify(folder, command)
    if manifest.get("features") != features.fingerprint:
        raise UserError(f"{folder} was trained on other features than those in {features.folder}; run again: {command}")
    config = read_config(folder, command)
    settings = from_json(name, config.settings, str(folder / CONFIG))
    model = build(name, features, settings.network, config.seed, known_to(settings))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.to(device).eval(), config
