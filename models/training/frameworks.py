"""What a network can be trained in: PyTorch, or TensorFlow by a twin of it. What comes of it is the same."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from core.errors import UserError
from core.registry import names_of_files
from models.data.features import Features
from models.networks.base import NETWORKS, Recommender
from models.training.devices import pick_precision
from models.training.epoch import torch_steps
from models.training.settings import TENSORFLOW, TrainSettings
from models.training.several import is_several, parted_steps, refuse_several

TWIN_NAMES = names_of_files("models.tensorflow.twins")
MOST_APART = 1e-5  # of a network's and its twin's scores


def steps_of(framework: str, features: Features) -> Callable[..., AbstractContextManager[Any]]:
    """The steps of a framework, as `Task` takes them."""
    if framework != TENSORFLOW:
        return parted_steps if is_several() else torch_steps
    from models.tensorflow.steps import TwinSteps

    return TwinSteps(features)


def resolved(settings: TrainSettings, device: torch.device) -> tuple[TrainSettings, torch.device]:
    """Settings without `auto`, and where PyTorch's part of a training is: TensorFlow finds its own device."""
    if settings.framework == TENSORFLOW:
        precision = "float32" if settings.precision == "auto" else settings.precision
        return replace(settings, precision=precision), torch.device("cpu")
    return replace(settings, precision=pick_precision(settings.precision, device)), device


def require_framework(name: str, settings: TrainSettings) -> None:
    """Nothing, where a network can be trained with these settings in the framework that they name.

    Raises:
        UserError: it has no twin, or a setting is not carried over to it; the message names it.
    """
    if NETWORKS[name].learns_sequences:
        refuse_several(f"training {name}")
    if settings.framework != TENSORFLOW:
        return
    refuse_several("training in TensorFlow")
    if name not in TWIN_NAMES:
        raise UserError(f"{name} has no twin in TensorFlow, {' and '.join(TWIN_NAMES)} have; leave out --framework")
    wanted = {"pretraining": 0, "embedding_rate": 0, "precision": "float32"}
    for key, value in wanted.items():
        if getattr(settings, key) != value:
            raise UserError(
                f"{key} is {getattr(settings, key)} in the settings of {name}, which training in TensorFlow knows "
                f"nothing of; change it with --set {key}={value}"
            )


def require_agreement(model: Recommender, features: Features, settings: TrainSettings) -> None:
    """Nothing, where a network that TensorFlow trained scores as its twin does.

    Raises:
        UserError: it does not, which is a fault of Marquee.
    """
    if settings.framework != TENSORFLOW:
        return
    from models.tensorflow.steps import difference

    apart = difference(model, features, settings.network)
    if not apart <= MOST_APART:
        raise UserError(
            f"{model.name} scores {apart:.1e} apart from the twin in TensorFlow that it was trained as, more than "
            f"{MOST_APART:g}; nothing was written, please report this"
        )
