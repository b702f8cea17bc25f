"""Marquee's side of the benchmarks: each task runs what Marquee ships, in a process of its own, and writes figures.

`train` is `models.training`'s own epoch, cut to some samples after a warm-up. Variants take one thing away: `floor`
does not apply the gradients of the embedding rows, `frozen` does not even compute them, `dense` leaves the tables to
Adam, `float32` multiplies in single precision.
`evaluate` draws the 99 movies of each user and ranks them. `etl` is `prepare` of the random split. `accuracy` trains
one whole epoch and validates; its variant `dense-float32` is the same with Adam on everything and single precision.
"""

import argparse
import itertools
import json
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import inputs

PROTOCOL = {"dlrm": "random-split", "ncf": "leave-one-out"}
WARM_UP_STEPS = 20
VARIANTS = ("shipped", "floor", "frozen", "dense", "float32", "dense-float32")


class Cut:
    """The next `steps` batches of an epoch, as `train_epoch` takes them."""

    def __init__(self, batches: Any, epoch: Iterator[Any], steps: int):
        self._batches = itertools.islice(epoch, steps)
        self.samples, self.samples_at_most = batches.samples, batches.samples_at_most

    def epoch(self, number: int) -> Iterator[Any]:
        return self._batches


def train(run_folder: Path, model: str, variant: str, batch_size: int, samples: int, threads: int) -> dict[str, Any]:
    """Training samples per second."""
    import torch

    from core.run_folder import Run
    from models.data.load import load_features
    from models.networks.base import build
    from models.training.devices import device_name, pick_device
    from models.training.epoch import train_epoch
    from models.training.loop import FIT, Callbacks, TrainingLoop

    torch.set_num_threads(threads)
    protocol, device = PROTOCOL[model], pick_device("auto")
    features = load_features(Run(run_folder), protocol)
    settings = varied(large_settings(protocol, model, batch_size=batch_size), variant, device)
    network = build(model, features, settings.network, settings.seed).to(device)
    loop = TrainingLoop(network, features, settings, device, parts=FIT, callbacks=Callbacks())
    batches, trainee = loop.task.batches, loop.trainee
    if variant == "floor":
        trainee.rowwise.step = lambda: [taken.clear() for taken in trainee.rowwise._taken]  # type: ignore[method-assign]
    elif variant == "frozen":
        trainee.rowwise.release()
        trainee.rowwise.tables.clear()
        for _, table in network.embedding_tables():
            table.weight.requires_grad_(False)
    epoch = batches.epoch(1)
    taken = RowsTaken(network)

    def run(steps: int) -> float:
        task = replace(loop.task, batches=Cut(batches, epoch, steps))
        loss = train_epoch(trainee, task, 1, lambda *_: None)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return loss

    of_a_step = batches.rows_per_step * (1 + batches.negatives)
    run(WARM_UP_STEPS)
    taken.stop()
    steps = max(1, round(samples / batch_size))
    start = time.perf_counter()
    loss = run(steps)
    seconds = time.perf_counter() - start
    figures = {
        "samples_per_second": steps * of_a_step / seconds,
        "embedding_bytes_per_sample": taken.bytes / (WARM_UP_STEPS * of_a_step),
        "seconds": seconds,
        "loss": loss,
        "precision": settings.precision,
    }
    return {**figures, "device": device_name(device), "weights": sum(p.numel() for p in network.parameters())}


class RowsTaken:
    """Counts the bytes of embedding rows that a network's tables hand out, until `stop`."""

    def __init__(self, network: Any):
        self.bytes = 0
        self._hooks = [table.register_forward_hook(self._count) for _, table in network.embedding_tables()]

    def _count(self, table: Any, inputs: Any, rows: Any) -> None:
        self.bytes += inputs[0].numel() * table.weight.shape[1] * table.weight.element_size()

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def large_settings(protocol: str, model: str, **changes: Any) -> Any:
    """The defaults for large data, whatever the size of this one."""
    from models.training.settings import LARGE, settings_for

    return settings_for(protocol, model, rows=LARGE, **changes)


def varied(settings: Any, variant: str, device: Any) -> Any:
    """The settings of a variant."""
    from models.training.devices import pick_precision

    precision = "float32" if "float32" in variant else pick_precision(settings.precision, device)
    return replace(settings, precision=precision, embedding_rate=0.0 if "dense" in variant else settings.embedding_rate)


def accuracy(run_folder: Path, model: str, variant: str, threads: int) -> dict[str, Any]:
    """What validation says after one epoch: NDCG@10 of NCF, AUC of DLRM."""
    import torch

    from core.run_folder import Run
    from models.data.load import load_features
    from models.networks.base import build
    from models.protocols.base import PROTOCOLS
    from models.training.devices import pick_device
    from models.training.loop import fit

    torch.set_num_threads(threads)
    protocol, device = PROTOCOL[model], pick_device("auto")
    features = load_features(Run(run_folder), protocol)
    settings = varied(large_settings(protocol, model, epochs=1), variant, device)
    network = build(model, features, settings.network, settings.seed).to(device)
    history, _ = fit(network, features, settings, device)
    return {"metric": history[0][PROTOCOLS[protocol].monitor], "history": history}


def evaluate(run_folder: Path, users: int, threads: int) -> dict[str, Any]:
    """Users per second of leave-one-out's sampled evaluation of NCF, the drawing of the movies included."""
    import numpy as np
    import torch

    from core.run_folder import Run
    from models.data.interactions import Candidates
    from models.data.load import load_features
    from models.evaluation.ranking import sampled_metrics
    from models.evaluation.scorers import pair_scorer
    from models.networks.base import build
    from models.training.devices import pick_device
    from workflows.features.vocabulary import FIRST_INDEX
    from workflows.negatives import NegativeSampler

    torch.set_num_threads(threads)
    device = pick_device("auto")
    features = load_features(Run(run_folder), "leave-one-out")
    settings = large_settings("leave-one-out", "ncf")
    score = pair_scorer(build("ncf", features, settings.network, 0).to(device), device, "leave-one-out")
    sampler = NegativeSampler(*features.seen("train", "valid", "test"), FIRST_INDEX, features.rated_movies)
    questions = features.candidates("test")
    for warm_up in (True, False):
        asked = slice(None, 100 if warm_up else users)
        user, positive = questions.user[asked], questions.positive[asked]
        start = time.perf_counter()
        drawn = sampler.draw_distinct(user, 99, np.random.default_rng(0))
        sampled_metrics(score, Candidates(user, positive, drawn, questions.not_before[asked])).means()
    seconds = time.perf_counter() - start
    return {"users_per_second": len(user) / seconds, "seconds": seconds, "users": len(user)}


def etl(run_folder: Path, scratch: Path) -> dict[str, Any]:
    """Rows per second of `prepare`, random split, from the tables in Parquet to features on disk."""
    import pyarrow.parquet as pq

    from core.run_folder import Run
    from workflows.features.prepare import PrepareSettings, prepare

    shutil.rmtree(scratch, ignore_errors=True)
    run = Run(scratch / run_folder.name)
    shutil.copytree(run_folder / "tables", run.tables)
    stages: dict[str, float] = {}
    start = last = time.perf_counter()

    def advance(by: float, note: str) -> None:
        nonlocal last
        if note:
            stages[note], last = time.perf_counter() - last, time.perf_counter()

    prepare(run, "random-split", PrepareSettings(), advance)
    seconds = time.perf_counter() - start
    rows = pq.ParquetFile(run.tables / "ratings.parquet").metadata.num_rows
    shutil.rmtree(scratch)
    # what the notebooks' recipe does between its Parquet files: fit, join or side tables, transform
    same = sum(stages[name] for name in ("vocabularies", "transform", "side tables"))
    return {
        "rows_per_second": rows / seconds,
        "same_work_rows_per_second": rows / same,
        "seconds": seconds,
        "stages": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "evaluate", "etl", "accuracy"))
    parser.add_argument("--run", type=Path, required=True, help="a run folder with features")
    parser.add_argument("--model", choices=tuple(PROTOCOL), default="dlrm")
    parser.add_argument("--variant", choices=VARIANTS, default="shipped")
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--samples", type=int, default=8_000_000)
    parser.add_argument("--users", type=int, default=inputs.EVALUATION_USERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.task == "train":
        figures = train(given.run, given.model, given.variant, given.batch_size, given.samples, given.threads)
    elif given.task == "accuracy":
        figures = accuracy(given.run, given.model, given.variant, given.threads)
    elif given.task == "evaluate":
        figures = evaluate(given.run, given.users, given.threads)
    else:
        figures = etl(given.run, inputs.WORK / "etl")
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    given.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
