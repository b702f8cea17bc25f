"""What a machine with a GPU has to show, and a laptop cannot: each check in a process of its own, all in one JSON.

python bench/gpu_check.py                  # or `make gpu-check`; synthetic data of a million ratings are made first
python bench/gpu_check.py --device cpu     # the same checks without a GPU, to see that they work

A check that fails is kept with its last line, and the command ends with exit code 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inputs
import ours
import records

OUT = inputs.WORK / "gpu-check.json"
SCALE = 0.04  # of ML-25M: a million ratings
COPIED = 1 << 28  # bytes, of a copy that measures memory
COPIES = 20
# Times that the bytes of a row move in a step: read, its gradient written and read, the row read and written.
MOVES = 5
CLOSE = 1e-5
HANG_SECONDS = 1800
MODELS = tuple(ours.PROTOCOL)
PRECISIONS = ("float32", "bfloat16")


def machine(_: argparse.Namespace) -> dict[str, Any]:
    """Device, versions, where data frames are, and how fast the device's memory copies."""
    from importlib.metadata import version

    from core.gpu import DATA_FRAMES

    import torch

    from models.training.devices import hardware_name, pick_device, pick_precision

    device = pick_device("auto")
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    _wait(device)
    start = time.perf_counter()
    for _number in range(COPIES):
        target.copy_(source)
    _wait(device)
    seconds = time.perf_counter() - start
    packages = ("torch", "nvtabular", "merlin-core", "merlin-dataloader", "merlin-models", "numpy", "pandas")
    return {
        "device": hardware_name(device),
        "cuda": torch.version.cuda,
        "data_frames": DATA_FRAMES,
        "precision": pick_precision("auto", device),
        "copy_bytes_per_second": 2 * COPIED * COPIES / seconds,
        "versions": {name: version(name) for name in packages},
    }


def prepare(given: argparse.Namespace) -> dict[str, Any]:
    """`prepare` of the random split, where Merlin's data frames are on the GPU if cuDF is there."""
    from core.gpu import DATA_FRAMES

    with tempfile.TemporaryDirectory() as scratch:
        return {"data_frames": DATA_FRAMES, **ours.etl(given.run, Path(scratch) / "etl")}


def same_tables(given: argparse.Namespace) -> dict[str, Any]:
    """`prepare` with and without cuDF writes the same columns."""
    from core.gpu import COUNT_DEVICES, HAS_CUDF

    import pyarrow.parquet as pq

    if not HAS_CUDF:
        return {"skipped": "there is no cuDF: tables are made on the CPU alone"}
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for counted in ("True", "False"):
            runs = Path(folder) / counted
            run = runs / given.run.name
            run.mkdir(parents=True)
            (run / "tables").symlink_to((given.run / "tables").resolve())
            command = [sys.executable, "-m", "marquee", "prepare", "--dataset", run.name, "--runs", str(runs)]
            variables = {**os.environ, COUNT_DEVICES: counted}
            subprocess.run([*command, "--protocol", "random-split"], cwd=inputs.ROOT, env=variables, check=True)
            made.append(run / "features")
        for path in sorted(made[0].rglob("*.parquet")):
            one, other = (pq.read_table(root / path.relative_to(made[0])) for root in made)
            if not one.cast(other.schema).equals(other):
                sys.exit(f"{path.relative_to(made[0])} differs between cuDF and pandas")
            compared += 1
    return {"files": compared}


def rowwise(_: argparse.Namespace) -> dict[str, Any]:
    """The row-wise update in the device's operators against the fused one of the CPU, over ten steps."""
    import torch
    from torch import nn

    from models.training.devices import pick_device
    from models.training.rowwise import RowwiseAdagrad

    def updated(device: torch.device) -> torch.Tensor:
        generator = torch.Generator().manual_seed(inputs.SEED)
        table = nn.Embedding(5_000, 16)
        with torch.no_grad():
            table.weight.copy_(torch.randn(5_000, 16, generator=generator))
        table = table.to(device)
        update = RowwiseAdagrad([table], 0.05, 1e-4)
        for _number in range(10):
            index = torch.randint(5_000, (4_096,), generator=generator).to(device)
            weights = torch.randn(4_096, 16, generator=generator).to(device)
            (table(index) * weights).sum().backward()
            update.step()
        return table.weight.detach().cpu()

    return _close(float((updated(pick_device("auto")) - updated(torch.device("cpu"))).abs().max()))


def speed(given: argparse.Namespace, model: str, precision: str) -> dict[str, Any]:
    """Training samples per second, and the share of the memory's speed that moving embedding rows takes."""
    from models.training.devices import pick_device, pick_precision

    if precision != "float32" and pick_precision("auto", pick_device("auto")) != precision:
        return {"skipped": f"this device does not multiply {precision} natively"}
    variant = "float32" if precision == "float32" else "shipped"
    found = ours.train(given.run, model, variant, given.batch_size, given.samples, os.cpu_count() or 1)
    moved = MOVES * found["embedding_bytes_per_sample"] * found["samples_per_second"]
    return {**found, "row_bytes_per_second": moved}


def metric(given: argparse.Namespace, model: str) -> dict[str, Any]:
    """One epoch as shipped against one with Adam on every row and single precision."""
    as_shipped, plain = (
        ours.accuracy(given.run, model, variant, os.cpu_count() or 1)["metric"]
        for variant in ("shipped", "dense-float32")
    )
    return {"shipped": as_shipped, "dense_float32": plain}


def served_as_trained(given: argparse.Namespace, model: str) -> dict[str, Any]:
    """Trained on the device by the command, scored on the device and on the CPU, exported with its parity check."""
    import numpy as np
    import torch

    from core.run_folder import Run
    from models.data.load import load_features
    from models.evaluation.scorers import pair_scorer
    from models.training.devices import pick_device
    from models.training.train import load

    with tempfile.TemporaryDirectory() as folder:
        run = inputs.linked(Run(given.run.resolve()), Path(folder))
        where = ("--dataset", run.root.name, "--runs", folder, "--protocol", "leave-one-out", "--model", model)
        inputs.marquee("train", *where, "--epochs", "1", "--device", pick_device("auto").type)
        features = load_features(run, "leave-one-out")
        rng = np.random.default_rng(inputs.SEED)
        users, movies = (rng.integers(0, rows, 1_000) for rows in (features.user_embeddings, features.movie_embeddings))
        scores = []
        for device in (pick_device("auto"), torch.device("cpu")):
            network, _ = load(run, features, model, device)
            scores.append(pair_scorer(network, device, "leave-one-out")(users, movies))
        inputs.marquee("export", "--dataset", run.root.name, "--runs", folder, "--default-model", model)
    return _close(float(np.abs(scores[0] - scores[1]).max()))


CHECKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "machine": machine,
    "rowwise": rowwise,
    "prepare": prepare,
    "same-tables": same_tables,
    **{
        f"speed-{model}-{precision}": lambda given, model=model, precision=precision: speed(given, model, precision)
        for model in MODELS
        for precision in PRECISIONS
    },
    **{f"metric-{model}": lambda given, model=model: metric(given, model) for model in MODELS},
    **{f"served-{model}": lambda given, model=model: served_as_trained(given, model) for model in MODELS},
}


def _close(difference: float) -> dict[str, Any]:
    if not difference <= CLOSE:
        sys.exit(f"they differ by {difference:.1e}, more than {CLOSE:.0e}")
    return {"difference": difference}


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def checked(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What a check found, in a process of its own: `ok`, `took_seconds`, and its figures or `why`."""
    variables = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {})}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--only", name, "--one", "--run", str(given.run), "--out", str(out)]
        command += ["--batch-size", str(given.batch_size), "--samples", str(given.samples)]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True, timeout=HANG_SECONDS)
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            why = f"no end after {HANG_SECONDS} s"
        found = json.loads(out.read_text()) if out.is_file() else {"why": why}
    return {"ok": "why" not in found, "took_seconds": round(time.perf_counter() - start, 1), **found}


def with_shares(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds to each speed the share of what the memory's copy reaches."""
    most = found.get("machine", {}).get("copy_bytes_per_second")
    for one in found.values():
        if most and "row_bytes_per_second" in one:
            one["share_of_memory_bandwidth"] = one["row_bytes_per_second"] / most
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help=f"a prepared run folder (synthetic data, {SCALE:g} of ML-25M)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=tuple(CHECKS), default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--samples", type=int, default=8_000_000, help="of each speed")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        records.save(given.out, CHECKS[given.only[0]](given))
        return
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit("no CUDA GPU can be used by this PyTorch; --device cpu runs the same checks without one")
    given.run = (given.run or inputs.runs(SCALE)).resolve()
    found = {}
    for name in given.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = checked(name, given)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    failed = [f"{name}: {one['why']}" for name, one in found.items() if not one["ok"]]
    records.conclude(given.out, {"device": given.device, "checks": with_shares(found)}, failed)


if __name__ == "__main__":
    main()
