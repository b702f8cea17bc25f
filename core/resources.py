"""Seconds and peak memory of each stage of a run, kept in `stages.json`."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from core.json_files import read_json, write_json
from core.run_folder import Run

STAGES = ("fetch", "prepare", "train", "evaluate", "export")
SELF = Path("/proc/self")


@dataclass
class Measure:
    """What a stage says of itself.

    Attributes:
        counts: whether it had anything to do. Where it reused everything, the earlier measurement stays.
        others_mb: the memory of processes that it started.
    """

    counts: bool = False
    others_mb: float = 0.0


@contextmanager
def measured(run: Run, stage: str) -> Iterator[Measure]:
    """Measures a stage, and writes the result into the run's folder if the stage succeeds and its `Measure` counts.

    The memory is the highest resident size of this process during the stage, in MB, and of those that train side by
    side; without the workers of a Dask cluster.
    """
    _forget_peak()
    start = time.perf_counter()
    measure = Measure()
    yield measure
    if measure.counts:
        took = {"seconds": round(time.perf_counter() - start, 1), "peak_mb": round(peak_mb() + measure.others_mb)}
        write_json(run.stages, {**read_stages(run), stage: took})


def read_stages(run: Run) -> dict[str, dict[str, float]]:
    """Each stage's `seconds` and `peak_mb`, in the order of the pipeline."""
    measurements = read_json(run.stages) if run.stages.is_file() else {}
    return {stage: measurements[stage] for stage in STAGES if stage in measurements}


def stages_line(run: Run) -> str:
    """The seconds of each stage and the highest peak memory, in one line."""
    stages = read_stages(run)
    each = ", ".join(f"{stage} {took['seconds']:,.0f} s" for stage, took in stages.items())
    if not stages:
        return "Stages: none measured"
    peak = max(took["peak_mb"] for took in stages.values()) / 1000
    return f"Stages: {each}; peak memory {peak:.1f} GB"


def _forget_peak() -> None:
    with suppress(OSError):
        (SELF / "clear_refs").write_text("5")  # Linux: the peak starts again from now


def peak_mb() -> float:
    """The highest resident size of this process, in MB."""
    try:
        lines = (SELF / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
