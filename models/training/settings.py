"""How a model is trained, and the defaults: data, found by `marquee tune` on validation, in `models/defaults/`."""

import json
import os
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import DEFAULT_SEED
from models.networks.base import NetworkSettings

LARGE = 3_000_000  # training ratings, from where on `large.json` holds
MEDIUM = 400_000  # from where on ML-1M's settings fit better than ML-100K's
LARGE_BATCH = 8_192  # samples, from where on a second thread gains
PRECISIONS = ("auto", "float32", "bfloat16")
SCHEDULES = ("constant", "cosine")
DEFAULTS = Path(__file__).parent / "defaults"


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained.

    Attributes:
        learning_rate: Adam's.
        schedule: of all learning rates over `epochs`: `constant`, or `cosine` from the full rate down to 0.
        embedding_rate: row-wise Adagrad's, for the embedding tables of `LARGE_TABLE` rows and more; 0 to leave them to
            Adam with everything else.
        weight_decay: L2 penalty per step: on all weights, and under row-wise Adagrad on the rows of the batch.
        l2: penalty per sample on the squares of the embeddings that it uses, as in matrix factorisation.
        averaging: decay per step of the running mean of the weights; 0 for the last weights alone.
        batch_size: samples per step.
        epochs: at most this many.
        patience: stop after this many epochs without a better validation metric.
        refit: once validation has found the best epoch, train anew for as many epochs on train and validation together.
        pretraining: epochs that NCF's two branches are first trained apart, as in He et al., section 3.4.1.
        recency: half-life, in ratings, of a positive's weight in the loss: each later rating of the user takes a share
            of it, down to a twentieth; 0 for equal weights. Leave-one-out asks what comes next, and what a user watched
            lately tells more about that.
        negatives: movies drawn per positive and epoch, leave-one-out only.
        precision: of the products in training, `float32` or `bfloat16`; `auto` is bfloat16 where the hardware has it.
            Weights, sums and scoring are in float32.
        seed: of the weights, the order and the negatives.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    learning_rate: float = 1e-3
    schedule: str = "constant"
    embedding_rate: float = 0.0
    weight_decay: float = 0.0
    l2: float = 0.0
    averaging: float = 0.999
    batch_size: int = 1024
    epochs: int = 30
    patience: int = 5
    refit: bool = False
    pretraining: int = 0
    recency: float = 0.0
    negatives: int = 4
    precision: str = "float32"
    seed: int = DEFAULT_SEED

    @classmethod
    def of(cls, values: dict[str, Any]) -> "TrainSettings":
        """Settings from what JSON keeps of them; what is left out has its default."""
        network: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.get("network", {}).items()
        }
        rest = {key: value for key, value in values.items() if key != "network"}
        return cls(network=NetworkSettings(**network), **rest)


def settings_for(protocol: str, name: str, dataset: str = "", rows: int = 0, **changes: Any) -> TrainSettings:
    """The defaults of a protocol and model, with the changes that are not None.

    Args:
        dataset: whose own defaults are taken, where it has any; else those of its size.
        rows: training ratings.
    """
    return with_changes(TrainSettings.of(defaults_of(dataset, rows)[protocol][name]["settings"]), **changes)


def with_changes(settings: TrainSettings, **changes: Any) -> TrainSettings:
    """The settings with the changes that are not None."""
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})


def changed(settings: TrainSettings, changes: dict[str, Any], where: str) -> TrainSettings:
    """The settings with changes that a user asked for, as nested dictionaries.

    Args:
        where: what the settings are of, for the message.

    Raises:
        UserError: an unknown key, or a value of another type; the message names the key and what is allowed.
    """
    return _changed(settings, changes, where, "")


def _changed(settings: Any, changes: dict[str, Any], where: str, before: str) -> Any:
    known = {one.name: getattr(settings, one.name) for one in fields(settings)}
    checked: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise UserError(f"{where}: {before}{key} is unknown; allowed is: {', '.join(known)}")
        old = known[key]
        if is_dataclass(old) and isinstance(value, dict):
            checked[key] = _changed(old, value, where, f"{before}{key}.")
        elif isinstance(old, tuple) and isinstance(value, list):
            checked[key] = tuple(value)
        elif type(value) is type(old) or (type(old) is float and type(value) is int):
            checked[key] = type(old)(value)
        else:
            wanted = "an object" if is_dataclass(old) else "a list" if isinstance(old, tuple) else type(old).__name__
            raise UserError(f"{where}: {before}{key} is {json.dumps(value)}; it must be {wanted}")
    return replace(settings, **checked)


def defaults_of(dataset: str, rows: int) -> dict[str, dict[str, dict[str, Any]]]:
    """The shipped defaults of a dataset, or of its size: protocol to model to `settings` and the study behind them."""
    return dict(read_json(defaults_file(dataset, rows)))


def defaults_file(dataset: str, rows: int) -> Path:
    """The file with the shipped defaults of a dataset, or of its size."""
    path = DEFAULTS / f"{dataset}.json"
    if path.is_file():
        return path
    return DEFAULTS / ("large.json" if rows >= LARGE else "ml-1m.json" if rows >= MEDIUM else "ml-100k.json")


def changed_fields(settings: TrainSettings) -> dict[str, Any]:
    """What differs from `TrainSettings()`, as JSON keeps it; the seed is left out."""

    def changed(value: Any, plain: Any) -> dict[str, Any]:
        pairs = ((f.name, getattr(value, f.name), getattr(plain, f.name)) for f in fields(value))
        return {name: one for name, one, other in pairs if one != other and name not in ("network", "seed")}

    network = changed(settings.network, NetworkSettings())
    return {**({"network": network} if network else {}), **changed(settings, TrainSettings())}


def pick_device(wanted: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        UserError: another name, or cuda where there is no GPU.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {wanted!r}; choose auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU can be used by this PyTorch; choose --device cpu, or install its CUDA build")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def pick_precision(wanted: str, device: torch.device) -> str:
    """`float32` or `bfloat16`, which `auto` takes where the device multiplies it natively.

    Raises:
        UserError: another name.
    """
    if wanted not in PRECISIONS:
        raise UserError(f"unknown precision {wanted!r}; choose one of {', '.join(PRECISIONS)}")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = any(flag in _cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if native else "float32"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def threads_for(settings: TrainSettings) -> int:
    """How many threads make a step fastest: at small batches they wait for each other longer than they work."""
    return (os.cpu_count() or 1) if settings.batch_size >= LARGE_BATCH else 1
