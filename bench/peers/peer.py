"""What the peers share: their arguments, their threads, and how a result is written. Standard library only."""

import argparse
import json
import os
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

WARM_UP_STEPS = 3
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds `--threads` and `--out`, parses, and sees to it that no library starts more threads than asked for.

    Libraries size their pools when they are imported, before any argument is read, so the script starts itself anew
    unless the environment says the same in all of `THREAD_VARIABLES` already.
    """
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="where result.json is written")
    arguments = parser.parse_args()
    wanted = dict.fromkeys(THREAD_VARIABLES, str(arguments.threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    return arguments


def training_parser(description: str | None, models: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments of every peer that trains."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that the harness writes")
    parser.add_argument("--model", choices=models, default=models[0])
    parser.add_argument("--batch-size", type=int, default=16384)
    parser.add_argument("--samples", type=int, required=True, help="about how many training samples are timed")
    return parser


def facts(data: Path) -> dict[str, Any]:
    """Table sizes, column names and widths of the benchmark."""
    return json.loads((data / "facts.json").read_text())


def passes(samples: int, batch_size: int, steps_per_epoch: int) -> tuple[int, int]:
    """How many epochs of how many steps train about `samples` samples, no epoch longer than the data."""
    steps = max(1, round(samples / batch_size))
    epochs = -(-steps // steps_per_epoch)
    return epochs, -(-steps // epochs)


def write_result(out: Path, packages: Sequence[str], **measured: Any) -> None:
    """Writes what was measured, this process' peak memory, and the versions of `packages`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in packages}}
    result = {**measured, "peak_mb": round(peak, 1), "versions": versions}
    out.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
