"""What the benchmarks run on: a synthetic ML-25M at some scale, prepared by Marquee; and the same rows for peers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from core.run_folder import Run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the benchmarks are scripts, and Marquee is run from its checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Merlin imports TensorFlow, which reports what needs no action
WORK = ROOT / ".bench"
LIKE = "ml-25m"
SEED = 42
PART_ROWS = 1 << 20
DLRM_ROWS, NCF_SAMPLES = 5 * PART_ROWS, 10 * PART_ROWS  # what the peers train on; the tables are of the whole dataset
DIM, BOTTOM, TOP, NCF_TOP = 32, (64,), (128, 64, 32), (64, 32, 16)
EVALUATION_USERS = 8_000


def dataset(scale: float) -> str:
    """The name of the synthetic dataset."""
    return f"synth-{LIKE}-{scale:g}"


def raw(scale: float) -> Path:
    """The CSV files of the scale, made if they are not there."""
    folder = WORK / "data" / dataset(scale)
    if not (folder / "manifest.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        marquee("synth", "--like", LIKE, "--scale", str(scale), "--seed", str(SEED), "--out", str(folder))
    return folder


def runs(scale: float) -> Path:
    """The run folder with tables and features, made if they are not there (and checked, if they are)."""
    for command in (["fetch", "--data", str(raw(scale))], ["prepare"]):
        marquee(*command, "--dataset", dataset(scale), "--runs", str(WORK / "runs"))
    return WORK / "runs" / dataset(scale)


def served(scale: float) -> Path:
    """The run folder with DLRM and NCF, trained for one epoch, exported for both of the serving runtimes."""
    run = runs(scale)
    where = ("--dataset", dataset(scale), "--runs", str(WORK / "runs"))
    for model in ("dlrm", "ncf"):
        marquee("train", *where, "--protocol", "leave-one-out", "--model", model, "--epochs", "1")
    marquee("export", *where, "--default-model", "dlrm")
    marquee("export", *where, "--runtime", "merlin")
    return run


def linked(prepared: "Run", folder: Path) -> "Run":
    """A run folder of its own in a folder, with links to the tables and features of one that is prepared."""
    from core.run_folder import Run  # not above: peers import this in environments of their own

    run = Run(folder / prepared.root.name)
    run.root.mkdir(parents=True, exist_ok=True)
    for one in (prepared.tables, prepared.features):
        if not (run.root / one.name).is_symlink():
            (run.root / one.name).symlink_to(one.resolve())
    return run


def marquee(*arguments: str) -> None:
    """Runs one of Marquee's commands."""
    subprocess.run([sys.executable, "-m", "marquee", *arguments], cwd=ROOT, check=True)


def peers_data(scale: float) -> Path:
    """The same samples for the peers, with features in the rows, as their own readers want them."""
    folder = WORK / "peers" / dataset(scale)
    run = runs(scale)
    if (folder / "facts.json").is_file() and (folder / "facts.json").stat().st_mtime > _newest(run / "features"):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    _write(run, folder)
    return folder


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.rglob("manifest.json"))


def _write(run_folder: Path, folder: Path) -> None:
    import torch

    from core.json_files import write_json
    from core.run_folder import Run
    from models.data.batches import Batches, Sampling
    from models.data.load import load_features
    from workflows.features.vocabulary import FOLDS
    from workflows.splits.base import read_split

    run, cpu = Run(run_folder), torch.device("cpu")
    rng = np.random.default_rng(SEED)
    features = load_features(run, "random-split")
    rows = features.interactions("train")
    chosen = torch.from_numpy(rng.permutation(len(rows))[:DLRM_ROWS])
    user, movie, fold, label = (getattr(rows, name)[chosen].long() for name in ("user", "movie", "fold", "label"))
    side = features.side
    columns = torch.cat(
        [side.movie_features[movie], side.movie_statistics[fold, movie], side.user_statistics[fold, user]], dim=1
    ).numpy()
    names = [f"c{i}" for i in range(columns.shape[1])]
    table = {"user_id": user.numpy(), "movie_id": movie.numpy(), "label": label.float().numpy()}
    _write_parts(folder / "dlrm", table | {name: columns[:, i] for i, name in enumerate(names)})

    features = load_features(run, "leave-one-out")
    sampling = Sampling(batch_size=PART_ROWS, negatives=4, seed=SEED)
    batches = Batches(features.interactions("train"), features.rated_movies, sampling, cpu)
    samples: list[tuple[np.ndarray, ...]] = []
    for batch in batches.epoch(1):
        samples.append((batch.user.numpy(), batch.movie.numpy(), batch.label.numpy()))
        if sum(len(part[0]) for part in samples) >= NCF_SAMPLES:
            break
    user, movie, label = (np.concatenate(part) for part in zip(*samples))
    order = rng.permutation(len(user))
    _write_parts(folder / "ncf", {"user_id": user[order], "movie_id": movie[order], "label": label[order]})

    everything = pa.concat_tables(
        [
            read_split(features.folder, part, ["user_index", "movie_index", "timestamp"])
            for part in ("train", "valid", "test")
        ]
    ).rename_columns(["user_id", "movie_id", "timestamp"])
    everything = everything.set_column(0, "user_id", pc.cast(everything["user_id"], pa.int64()))
    everything = everything.set_column(1, "movie_id", pc.cast(everything["movie_id"], pa.int64()))
    pq.write_table(everything, folder / "positives.parquet")
    sizes = {
        "users": features.users,
        "movies": features.movies,
        "continuous": names,
        "folds": FOLDS,
    }
    write_json(folder / "facts.json", {**sizes, "dim": DIM, "bottom": BOTTOM, "top": TOP, "ncf_top": NCF_TOP})


def _write_parts(folder: Path, columns: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    table = pa.table(columns)
    for part, start in enumerate(range(0, len(table), PART_ROWS)):
        pq.write_table(table.slice(start, PART_ROWS), folder / f"part-{part:03}.parquet")


if __name__ == "__main__":
    made = {"peers": peers_data, "served": served}[sys.argv[1]]
    made(float(sys.argv[2]))
