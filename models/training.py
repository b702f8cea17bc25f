"""Training: a plain loop over in-memory index tensors, early stopping on validation, history per epoch."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from packaging.version import parse as version_info
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from marquee.errors import UserError
from marquee.manifest import (
    fingerprint,
    is_current,
    new_folder,
    read_json,
    read_manifest,
    source_digest,
    verify,
    write_json,
)
from marquee.runs import DEFAULT_SEED, PROTOCOLS, Run, package_versions
from models import checkpoint
from models.batches import Batches, epoch_seed
from models.checkpoint import Progress, Trainee
from models.data import Features, load_features
from models.evaluation import leave_one_out_metrics, random_split_metrics
from models.networks import NetworkSettings, Recommender, build
from models.rowwise import LARGE_TABLE, RowwiseAdagrad
from workflows.splits import split_files

CONFIG_FORMAT = 1
SCORING_ROWS = 1 << 16
REPORT_STEPS = 32
LARGE_BATCH = 8_192  # samples, from where on a second thread gains
AVERAGE_STEPS = 16  # between two updates of the running mean of the weights
# What validation chooses by; more is better.
MONITOR = {"leave-one-out": "ndcg@10", "random-split": "auc"}
PRECISIONS = ("auto", "float32", "bfloat16")

Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained.

    Attributes:
        learning_rate: Adam's.
        embedding_rate: row-wise Adagrad's, for the embedding tables of `LARGE_TABLE` rows and more; 0 to leave them to
            Adam with everything else.
        weight_decay: L2 penalty per step: on all weights, and under row-wise Adagrad on the rows of the batch.
        averaging: decay per step of the running mean of the weights; 0 for the last weights alone.
        batch_size: samples per step.
        epochs: at most this many.
        patience: stop after this many epochs without a better validation metric.
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
    embedding_rate: float = 0.0
    weight_decay: float = 0.0
    averaging: float = 0.999
    batch_size: int = 1024
    epochs: int = 30
    patience: int = 5
    recency: float = 0.0
    negatives: int = 4
    precision: str = "float32"
    seed: int = DEFAULT_SEED


# Chosen by random search on the validation splits of ML-100K.
DEFAULTS: dict[tuple[str, str], TrainSettings] = {
    ("leave-one-out", "dlrm"): TrainSettings(
        NetworkSettings(dim=32, bottom=(64,), top=(128, 64, 32), dropout=0.4, init_std=0.02),
        learning_rate=1e-3,
        weight_decay=1e-5,
        recency=5.0,
    ),
    ("leave-one-out", "ncf"): TrainSettings(
        NetworkSettings(dim=32, top=(64, 32, 16), dropout=0.2, init_std=0.05),
        learning_rate=2e-3,
        weight_decay=3e-6,
        recency=10.0,
    ),
    ("random-split", "dlrm"): TrainSettings(
        NetworkSettings(dim=32, bottom=(32,), top=(32, 16), dropout=0.4, init_std=0.02),
        learning_rate=1e-3,
        weight_decay=3e-4,
        averaging=0.998,
    ),
    ("random-split", "ncf"): TrainSettings(
        NetworkSettings(dim=16, top=(32, 16), dropout=0.6, init_std=0.02),
        learning_rate=5e-4,
        weight_decay=1e-5,
        averaging=0.998,
        batch_size=512,
    ),
}

# For datasets with at least LARGE training ratings: large batches, row-wise updates, and no dropout, as a row is seen
# once or a few times only. Chosen on the validation splits of the made-up stand-in for ML-25M, at a fifth of its size.
LARGE = 3_000_000
_LARGE_DLRM = NetworkSettings(dim=32, bottom=(64,), top=(128, 64, 32))
_LARGE_NCF = NetworkSettings(dim=32, top=(64, 32, 16))
_LARGE = TrainSettings(learning_rate=2e-3, averaging=0.99, batch_size=16_384, epochs=5, patience=1, precision="auto")
LARGE_DEFAULTS: dict[tuple[str, str], TrainSettings] = {
    ("leave-one-out", "dlrm"): replace(_LARGE, network=_LARGE_DLRM, embedding_rate=0.1),
    ("leave-one-out", "ncf"): replace(_LARGE, network=_LARGE_NCF, embedding_rate=0.2),
    ("random-split", "dlrm"): replace(_LARGE, network=_LARGE_DLRM, embedding_rate=0.02),
    ("random-split", "ncf"): replace(_LARGE, network=_LARGE_NCF, embedding_rate=0.02),
}


def settings_for(protocol: str, name: str, rows: int = 0, **changes: Any) -> TrainSettings:
    """The defaults of a protocol and model for so many training ratings, with the changes that are not None."""
    defaults = (LARGE_DEFAULTS if rows >= LARGE else DEFAULTS)[protocol, name]
    return replace(defaults, **{key: value for key, value in changes.items() if value is not None})


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


def threads_for_scoring(run: Run) -> int:
    """As many as the run's models were trained with: what scores a few users at a time gains nothing from more."""
    rows = max(training_rows(run, protocol) for protocol in PROTOCOLS)
    return (os.cpu_count() or 1) if rows >= LARGE else 1


def training_rows(run: Run, protocol: str) -> int:
    """How many training ratings `prepare` wrote for a protocol."""
    files = split_files(run.features / protocol, "train")
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def samples_per_epoch(rows: int, protocol: str, settings: TrainSettings) -> int:
    """How many samples an epoch trains on: rows, and in leave-one-out their negatives."""
    return rows * (1 + settings.negatives) if protocol == "leave-one-out" else rows


def train(
    run: Run, protocol: str, name: str, settings: TrainSettings, device: torch.device, advance: Advance
) -> dict[str, Any] | None:
    """Trains one model and writes `models/<protocol>/<model>/`; does nothing where it is there and up to date.

    Training that was killed goes on after its last whole epoch, and ends with the same weights as if it had not been.

    Args:
        advance: told the samples done, and after each epoch a note.

    Returns:
        The configuration written, or None where there was nothing to do.

    Raises:
        UserError: no features, or a loss that is not a number.
    """
    settings = replace(settings, precision=pick_precision(settings.precision, device))
    manifest = read_manifest(run.features / protocol, "prepare")
    made_from = fingerprint(
        features=manifest["fingerprint"], settings=asdict(settings), code=source_digest("models"), device=device.type
    )
    target = run.model(protocol, name)
    kept = Kept(checkpoint.folder_of(target), made_from)
    if is_current(target, made_from):
        checkpoint.remove(kept.folder)  # of a training that was killed at its very end
        return None
    features = load_features(run, protocol)
    model = build(name, features, settings.network, settings.seed).to(device)
    history, best = fit(model, features, settings, device, advance, kept)
    seconds = sum(epoch["seconds"] for epoch in history)
    monitor = MONITOR[protocol]
    config = {
        "format": CONFIG_FORMAT,
        "model": name,
        "protocol": protocol,
        "dataset": manifest["dataset"],
        "settings": asdict(settings),
        "seed": settings.seed,
        "epochs": len(history),
        "best_epoch": best,
        "monitor": monitor,
        "validation": {key: value for key, value in history[best - 1].items() if key not in ("epoch", "seconds")},
        "train_seconds": round(seconds, 3),
        "samples_per_second": round(sum(epoch["samples"] for epoch in history) / seconds),
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
    return config


def device_name(device: torch.device) -> str:
    """The hardware in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"


def load(run: Run, features: Features, name: str, device: torch.device) -> tuple[Recommender, dict[str, Any]]:
    """A trained model in evaluation mode, and its configuration.

    Raises:
        UserError: it is missing, has changed, or was trained on other features than these.
    """
    folder = run.model(features.protocol, name)
    manifest = verify(folder, "train")
    if manifest.get("features") != features.fingerprint:
        raise UserError(f"{folder} was trained on other features than those in {features.folder}; run train again")
    config = read_json(folder / "config.json")
    sizes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config["settings"]["network"].items()
    }
    model = build(name, features, NetworkSettings(**sizes), config["seed"])
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.to(device).eval(), config


@dataclass(frozen=True)
class Kept:
    """Where `fit` keeps its checkpoint, and the fingerprint of the training that it belongs to."""

    folder: Path
    made_from: str


def fit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    kept: Kept | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Trains in place and leaves the weights of the epoch that validated best.

    Args:
        kept: where a checkpoint is written after each epoch, and looked for at the start; None for none.

    Returns:
        A row per epoch (loss and validation metrics, samples and seconds of training), and the best epoch, from 1.

    Raises:
        UserError: the loss or a weight is not a finite number any more.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _fit(model, features, settings, device, advance, kept)


def _fit(
    model: Recommender,
    features: Features,
    settings: TrainSettings,
    device: torch.device,
    advance: Advance,
    kept: Kept | None,
) -> tuple[list[dict[str, Any]], int]:
    rows = features.interactions("train")
    trained = model.reserved_rows(*(torch.unique(index).long().to(device) for index in (rows.user, rows.movie)))
    batches = Batches(rows, features, device, settings.batch_size, settings.negatives, settings.recency, settings.seed)
    validate = validator(features, device)
    trainee = make_trainee(model, settings, device)
    monitor = MONITOR[features.protocol]
    progress = (kept and checkpoint.restore(kept.folder, kept.made_from, trainee)) or Progress()
    if progress.history:
        done = len(progress.history)
        advance(done * batches.samples, f"goes on after epoch {done}, where it was stopped")
    while len(progress.history) < settings.epochs and len(progress.history) - progress.best < settings.patience:
        number = len(progress.history) + 1
        start = time.perf_counter()
        mean_loss = train_epoch(trainee, batches, number, settings, device, advance)
        seconds = time.perf_counter() - start
        if not (np.isfinite(mean_loss) and all(bool(weight.isfinite().all()) for weight in model.parameters())):
            raise UserError(f"training broke down in epoch {number}, with a loss of {mean_loss}; lower --learning-rate")
        judged = trainee.mean.module
        judged.fill_reserved_rows(trained)
        metrics = validate(judged)
        row = {"epoch": number, "train_loss": mean_loss, **metrics, "samples": batches.samples, "seconds": seconds}
        progress.history.append(row)
        if metrics[monitor] > (progress.history[progress.best - 1][monitor] if progress.best else -np.inf):
            progress.best = number
            progress.best_weights = {key: value.clone() for key, value in judged.state_dict().items()}
        advance(0, f"epoch {number}: loss {mean_loss:.4f}, validation {monitor} {metrics[monitor]:.4f}")
        if kept:
            checkpoint.save(kept.folder, kept.made_from, trainee, progress)
    trainee.rowwise.release()
    if not progress.best:
        raise UserError(f"{monitor} cannot be judged: the validation rows of {features.folder} all have the same label")
    model.load_state_dict(progress.best_weights)
    return progress.history, progress.best


def make_trainee(model: Recommender, settings: TrainSettings, device: torch.device) -> Trainee:
    # What is validated and kept is a running mean of the weights: better than the last ones, and less noisy.
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging**AVERAGE_STEPS))
    tables = [table for _, table in model.embedding_tables() if len(table.weight) >= LARGE_TABLE]
    rowwise = RowwiseAdagrad(tables if settings.embedding_rate else [], settings.embedding_rate, settings.weight_decay)
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=_can_fuse(device),
    )
    return Trainee(model, mean, optimizer, rowwise)


def train_epoch(
    trainee: Trainee, batches: Batches, number: int, settings: TrainSettings, device: torch.device, advance: Advance
) -> float:
    """One pass over the samples; returns their mean loss."""
    torch.manual_seed(epoch_seed(settings.seed, number))  # of dropout
    trainee.model.train()
    total = torch.zeros((), device=device)
    told, done = 0, 0
    for step, batch in enumerate(batches.epoch(number), 1):
        trainee.optimizer.zero_grad(set_to_none=True)
        with autocast(settings.precision, device):
            logits = trainee.model(batch.user, batch.movie, batch.fold)
        loss = binary_cross_entropy_with_logits(logits.float(), batch.label, batch.weight)
        loss.backward()
        trainee.optimizer.step()
        trainee.rowwise.step()
        total += loss.detach() * len(batch)
        done += len(batch)
        if step % AVERAGE_STEPS == 0:
            trainee.mean.update_parameters(trainee.model)
        if step % REPORT_STEPS == 0:
            advance(done - told, "")
            told = done
    trainee.mean.update_parameters(trainee.model)
    advance(done - told, "")
    return float(total) / done


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Where the forward pass runs in `precision`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _can_fuse(device: torch.device) -> bool:
    """Whether this PyTorch has a fused Adam for the device: on the CPU only from 2.4 on."""
    return device.type == "cuda" or version_info(torch.__version__) >= version_info("2.4")


def scorer(model: Recommender, device: torch.device) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The model as a function of int64 [n] user and movie indices to float32 [n] probabilities."""

    @torch.inference_mode()
    def score(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        model.eval()
        pieces = max(1, -(-len(user) // SCORING_ROWS))
        parts = [
            torch.sigmoid(model(torch.from_numpy(u).to(device), torch.from_numpy(m).to(device))).cpu().numpy()
            for u, m in zip(np.array_split(user, pieces), np.array_split(movie, pieces))
        ]
        return np.concatenate(parts)

    return score


def validator(features: Features, device: torch.device) -> Callable[[Recommender], dict[str, float]]:
    """A function that judges a model by the validation split of the features' protocol."""
    if features.protocol == "leave-one-out":
        questions = features.candidates("valid")
        return lambda model: leave_one_out_metrics(scorer(model, device), questions).means()
    rows = features.interactions("valid")
    return lambda model: random_split_metrics(scorer(model, device), rows).means()
