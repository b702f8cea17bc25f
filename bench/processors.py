"""How far the figures move between machines: one dataset, the same seeds, processors that compute differently.

A seed decides every random choice, and on one machine the same seed gives the same bits. Another processor has other
vector instructions, so its sums are rounded in another order, and training carries the difference on. One machine is
restricted to the instructions of older ones, and given another number of threads; leave-one-out is trained on each.

    python bench/processors.py
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import records
from inputs import ROOT, WORK  # which puts the checkout on Python's path

from core.json_files import read_json, write_json

DATASET = "ml-100k"
PROTOCOL = "leave-one-out"
METRIC = "hr@10"
SEEDS = 5


@dataclass(frozen=True)
class Setting:
    """A way to compute.

    Attributes:
        title: what the page calls it.
        environment: variables that restrict PyTorch's own kernels, oneDNN, MKL and OpenBLAS to some instructions.
        threads: of PyTorch.
        seeds: how many are trained.
    """

    title: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    seeds: int = SEEDS


AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
AVX2 |= {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SSE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}
SSE |= {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
SETTINGS = {
    "native": Setting("the processor as it is"),
    "avx2": Setting("AVX2", AVX2),
    "sse": Setting("SSE 4", SSE),
    "two-threads": Setting("as it is, two threads", threads=2, seeds=1),
}


def measure() -> dict[str, Any]:
    """Each setting's metric of each model, a value per seed; settings that were measured before are reused."""
    found: dict[str, Any] = {"machine": records.machine(), "dataset": DATASET, "metric": METRIC, "settings": {}}
    for name, setting in SETTINGS.items():
        runs = WORK / "processors" / name
        out = runs / f"{PROTOCOL}.json"
        environment = os.environ | setting.environment
        where = ("--dataset", DATASET, "--runs", str(runs))
        compare = ("compare", *where, "--protocol", PROTOCOL, "--seeds", str(setting.seeds), "--out", str(out))
        for command in (("fetch", *where), ("prepare", *where), (*compare, "--threads", str(setting.threads))):
            subprocess.run([sys.executable, "-m", "marquee", *command], cwd=ROOT, env=environment, check=True)
        judged = read_json(out)
        models = judged["protocols"][PROTOCOL]["models"]
        found["seeds"] = max(found.get("seeds", []), judged["seeds"], key=len)
        values = {model: row["per_seed"][METRIC] for model, row in models.items()}
        found["settings"][name] = {"title": setting.title, "models": values}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    write_json(records.PROCESSORS, measure())
    records.write()


if __name__ == "__main__":
    main()
