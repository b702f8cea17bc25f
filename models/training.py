"""Training: a plain loop over in-memory index tensors, early stopping on validation, history per epoch."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from packaging.version import parse as version_info
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from marquee.errors import UserError
from marquee.manifest import fingerprint, is_current, new_folder, read_json, source_digest, verify, write_json
from marquee.runs import DEFAULT_SEED, Run, package_versions
from models.data import Features, Interactions, load_features
from models.evaluation import leave_one_out_metrics, random_split_metrics
from models.networks import NetworkSettings, Recommender, build
from workflows.features import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler

CONFIG_FORMAT = 1
SCORING_ROWS = 1 << 16
REPORT_STEPS = 32
LEAST_WEIGHT = 0.05
AVERAGE_STEPS = 16  # between two updates of the running mean of the weights
# What validation chooses by; more is better.
MONITOR = {"leave-one-out": "ndcg@10", "random-split": "auc"}

Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained.

    Attributes:
        learning_rate: Adam's.
        weight_decay: L2 penalty on all weights, per step.
        averaging: decay per step of the running mean of the weights; 0 for the last weights alone.
        batch_size: samples per step.
        epochs: at most this many.
        patience: stop after this many epochs without a better validation metric.
        recency: half-life, in ratings, of a positive's weight in the loss: each later rating of the user takes a share
            of it, down to `LEAST_WEIGHT`; 0 for equal weights. Leave-one-out asks what comes next, and what a user
            watched lately tells more about that.
        negatives: movies drawn per positive and epoch, leave-one-out only.
        seed: of the weights, the order and the negatives.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    averaging: float = 0.999
    batch_size: int = 1024
    epochs: int = 30
    patience: int = 5
    recency: float = 0.0
    negatives: int = 4
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


def settings_for(protocol: str, name: str, **changes: Any) -> TrainSettings:
    """The defaults of a protocol and model, with the changes that are not None."""
    return replace(DEFAULTS[protocol, name], **{key: value for key, value in changes.items() if value is not None})


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


def samples_per_epoch(run: Run, protocol: str, settings: TrainSettings) -> int:
    """How many samples an epoch trains on: rows, and in leave-one-out their negatives."""
    files = (run.features / protocol / "train").glob("*.parquet")
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    return rows * (1 + settings.negatives) if protocol == "leave-one-out" else rows


def train(
    run: Run, protocol: str, name: str, settings: TrainSettings, device: torch.device, advance: Advance
) -> dict[str, Any] | None:
    """Trains one model and writes `models/<protocol>/<model>/`; does nothing where it is there and up to date.

    Args:
        advance: told the samples done, and after each epoch a note.

    Returns:
        The configuration written, or None where there was nothing to do.

    Raises:
        UserError: no features, or a loss that is not a number.
    """
    manifest = verify(run.features / protocol, "prepare")
    made_from = fingerprint(
        features=manifest["fingerprint"], settings=asdict(settings), code=source_digest("models"), device=device.type
    )
    target = run.model(protocol, name)
    if is_current(target, made_from):
        return None
    features = load_features(run, protocol)
    model = build(name, features, settings.network, settings.seed).to(device)
    history, best = fit(model, features, settings, device, advance)
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


def fit(
    model: Recommender, features: Features, settings: TrainSettings, device: torch.device, advance: Advance
) -> tuple[list[dict[str, Any]], int]:
    """Trains in place and leaves the weights of the epoch that validated best.

    Returns:
        A row per epoch (loss and validation metrics, samples and seconds of training), and the best epoch, from 1.

    Raises:
        UserError: the loss or a weight is not a finite number any more.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)  # of dropout; the order and the negatives have generators of their own
        return _fit(model, features, settings, device, advance)


def _fit(
    model: Recommender, features: Features, settings: TrainSettings, device: torch.device, advance: Advance
) -> tuple[list[dict[str, Any]], int]:
    positives = features.interactions("train")
    epochs = _epochs(positives, features, settings, device)
    trained = model.reserved_rows(positives.user.to(device), positives.movie.to(device))
    validate = validator(features, device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=_can_fuse(device)
    )
    # What is validated and kept is a running mean of the weights: better than the last ones, and less noisy.
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging**AVERAGE_STEPS))
    monitor = MONITOR[features.protocol]
    history: list[dict[str, Any]] = []
    best, best_value, best_weights = 0, -np.inf, {}
    for number in range(1, settings.epochs + 1):
        start = time.perf_counter()
        model.train()
        user, movie, label, fold, weight, order = next(epochs)
        total = torch.zeros((), device=device)
        for step, batch in enumerate(order.split(settings.batch_size), 1):
            optimizer.zero_grad(set_to_none=True)
            logits = model(user[batch], movie[batch], fold[batch])
            loss = binary_cross_entropy_with_logits(logits, label[batch], weight[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
            if step % AVERAGE_STEPS == 0:
                mean.update_parameters(model)
            if step % REPORT_STEPS == 0:
                advance(REPORT_STEPS * settings.batch_size, "")
        mean.update_parameters(model)
        mean_loss = float(total) / len(order)
        seconds = time.perf_counter() - start
        if not (np.isfinite(mean_loss) and all(bool(weight.isfinite().all()) for weight in model.parameters())):
            raise UserError(f"training broke down in epoch {number}, with a loss of {mean_loss}; lower --learning-rate")
        mean.module.fill_reserved_rows(trained)
        metrics = validate(mean.module)
        row = {"epoch": number, "train_loss": mean_loss, **metrics, "samples": len(order), "seconds": seconds}
        history.append(row)
        rest = len(order) - step // REPORT_STEPS * REPORT_STEPS * settings.batch_size
        advance(rest, f"epoch {number}: loss {mean_loss:.4f}, validation {monitor} {metrics[monitor]:.4f}")
        if metrics[monitor] > best_value:
            best, best_value = number, metrics[monitor]
            best_weights = {key: value.clone() for key, value in mean.module.state_dict().items()}
        elif number - best >= settings.patience:
            break
    if not best:
        raise UserError(f"{monitor} cannot be judged: the validation rows of {features.folder} all have the same label")
    model.load_state_dict(best_weights)
    return history, best


def _can_fuse(device: torch.device) -> bool:
    """Whether this PyTorch has a fused Adam for the device: on the CPU only from 2.4 on."""
    return device.type == "cuda" or version_info(torch.__version__) >= version_info("2.4")


def _epochs(
    positives: Interactions, features: Features, settings: TrainSettings, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Per epoch: user, movie, label, fold and weight on the device, and the order to take them in.

    In leave-one-out each positive brings `negatives` new movies that its user has not rated in train. A negative's
    statistics leave out a random fold, as a positive's do, so that the fold tells nothing about the label; its weight
    is its positive's.
    """
    shuffle = torch.Generator().manual_seed(settings.seed)
    user, movie, label, fold = (getattr(positives, name).to(device) for name in ("user", "movie", "label", "fold"))
    weight = _weights(positives.later, settings.recency).to(device)
    if features.protocol == "random-split":
        while True:
            yield user, movie, label, fold, weight, torch.randperm(len(user), generator=shuffle).to(device)
    rng = np.random.default_rng(settings.seed)
    rated = positives.user.numpy(), positives.movie.numpy()
    sampler = NegativeSampler(*rated, FIRST_INDEX, features.rated_movies)
    count = settings.negatives
    all_users = torch.cat([user, user.repeat_interleave(count)])
    all_labels = torch.cat([label, torch.zeros(len(user) * count, device=device)])
    all_weights = torch.cat([weight, weight.repeat_interleave(count)])
    while True:
        drawn = torch.from_numpy(sampler.draw(rated[0], count, rng).ravel()).to(device)
        drawn_fold = torch.from_numpy(rng.integers(0, FOLDS, len(drawn))).to(device)
        order = torch.randperm(len(all_users), generator=shuffle).to(device)
        yield all_users, torch.cat([movie, drawn]), all_labels, torch.cat([fold, drawn_fold]), all_weights, order


def _weights(later: Tensor, half_life: float) -> Tensor:
    """float32 [n] with mean 1, from how many of the user's ratings came later."""
    if not half_life:
        return torch.ones(len(later))
    weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * 0.5 ** (later / half_life)
    return (weight / weight.mean()).float()


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
