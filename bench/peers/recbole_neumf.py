"""RecBole's NeuMF: training samples per second, and users per second of its leave-one-out evaluation against 99 movies.

What a user of RecBole writes: a configuration, `create_dataset`, `data_preparation`, the model and its trainer. Timed
are the trainer's own epoch loop over its own data loader, which draws the negatives, and the trainer's own `evaluate`.

RecBole's `train_batch_size` counts samples, positives and negatives together, rounded down to whole positives: 16384
makes batches of 3276 positives and 13104 negatives, 16380 samples. The figures count the samples that were trained.

Both loops are cut short. To cut the first one fairly, the timed batches follow the warm-up's in the same pass, so the
shuffling at the beginning of a pass is paid only where the samples last for another pass.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peer import WARM_UP_STEPS, facts, parse, training_parser, write_result
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import NeuMF
from recbole.trainer import Trainer
from recbole.utils import init_seed

PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy")
NEGATIVES = 4
NAME = "positives"


@dataclass
class Cut:
    """The next `batches` of `source`, which otherwise looks like `loader`."""

    loader: Any
    source: Iterable[Any]
    batches: int
    rows: int = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in itertools.islice(self.source, self.batches):
            self.rows += len(batch[0] if isinstance(batch, tuple) else batch)
            yield batch

    def __len__(self) -> int:
        return self.batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def write_interactions(positives: Path, folder: Path) -> None:
    """Writes RecBole's atomic file."""
    columns = {"user_id": "user_id:token", "movie_id": "item_id:token", "timestamp": "timestamp:float"}
    (folder / NAME).mkdir()
    frame = pd.read_parquet(positives, columns=list(columns)).rename(columns=columns)
    frame.to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)


def configuration(folder: Path, sizes: dict, batch_size: int, eval_batch_size: int) -> Config:
    """RecBole's configuration of the benchmark."""
    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "seed": 42,
        "state": "ERROR",
        "show_progress": False,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "mf_embedding_size": sizes["dim"],
        "mlp_embedding_size": sizes["dim"],
        "mlp_hidden_size": sizes["ncf_top"],
        "dropout_prob": 0.0,
        "learner": "adam",
        "learning_rate": 1e-3,
        "train_batch_size": batch_size,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": NEGATIVES},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni99"},
        "eval_batch_size": eval_batch_size,
        "metrics": ["Hit", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
    }
    return Config(model="NeuMF", dataset=NAME, config_dict=settings)


def train(trainer: Trainer, loader: Any, samples: int) -> dict[str, float]:
    """Warms up, then times the epoch loop over about `samples` samples."""
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    warm_up = Cut(loader, endless, WARM_UP_STEPS)
    trainer._train_epoch(warm_up, 0)
    batches = max(1, round(samples * WARM_UP_STEPS / warm_up.rows))
    timed = Cut(loader, endless, batches)
    start = time.perf_counter()
    loss = trainer._train_epoch(timed, 0)
    seconds = time.perf_counter() - start
    return {
        "samples_per_second": timed.rows / seconds,
        "samples": timed.rows,
        "seconds": seconds,
        "samples_per_step": timed.rows / batches,
        "loss": loss / batches,
    }


def evaluate(trainer: Trainer, loader: Any, users: int | None) -> dict[str, Any]:
    """Times `evaluate` over the test users, or over about `users` of them."""
    users_per_batch = loader.step
    batches = len(loader) if users is None else min(len(loader), -(-users // users_per_batch))
    trainer.evaluate(Cut(loader, loader, 1), load_best_model=False)
    timed = Cut(loader, loader, batches)
    start = time.perf_counter()
    metrics = trainer.evaluate(timed, load_best_model=False)
    seconds = time.perf_counter() - start
    done = timed.rows // 100  # each user has one held-out movie and 99 drawn ones
    return {"users_per_second": done / seconds, "eval_users": done, "eval_seconds": seconds, "metrics": dict(metrics)}


def main() -> None:
    parser = training_parser(__doc__, ("ncf",))
    parser.add_argument("--eval-users", type=int, help="evaluate about this many users; all where not given")
    parser.add_argument("--eval-batch-size", type=int, default=4096, help="samples, not users; RecBole's default")
    arguments = parse(parser)
    torch.set_num_threads(arguments.threads)
    data = arguments.data.resolve()
    sizes = facts(data)
    # RecBole writes its logs into the working directory.
    with tempfile.TemporaryDirectory(prefix="peers-recbole-") as temporary, contextlib.chdir(temporary):
        folder = Path(temporary)
        write_interactions(data / "positives.parquet", folder)
        config = configuration(folder, sizes, arguments.batch_size, arguments.eval_batch_size)
        init_seed(config["seed"], config["reproducibility"])
        start = time.perf_counter()
        train_data, _, test_data = data_preparation(config, create_dataset(config))
        load_seconds = time.perf_counter() - start
        model = NeuMF(config, train_data.dataset).to(config["device"])
        trainer = Trainer(config, model)
        trained = train(trainer, train_data, arguments.samples)
        evaluated = evaluate(trainer, test_data, arguments.eval_users)
    weights = sum(parameter.numel() for parameter in model.parameters())
    write_result(arguments.out, PACKAGES, **trained, **evaluated, load_seconds=load_seconds, weights=weights)


if __name__ == "__main__":
    main()
