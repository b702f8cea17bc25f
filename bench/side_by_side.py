"""`train` with as many models at a time as there are cores, against one after the other, by turns.

python bench/side_by_side.py            # runs/ml-100k, which needs `prepare` alone; its models are left as they are

Their weights must be the same, bit for bit.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import inputs
import records

from core.resources import read_stages
from core.run_folder import Run

BESIDE, ALONE = (), ("--threads", "1")
WEIGHTS = "models/*/*/weights.safetensors"


def trained(prepared: Run, how: tuple[str, ...], changes: list[str]) -> tuple[dict[str, float], dict[str, bytes]]:
    """Trains everything that `run` trains in a run folder of its own: seconds and memory, and the weights by path."""
    with tempfile.TemporaryDirectory() as folder:
        run = inputs.linked(prepared, Path(folder))
        settings = [part for change in changes for part in ("--set", change)]
        inputs.marquee("train", "--dataset", run.root.name, "--runs", folder, *how, *settings)
        found = sorted(run.root.glob(WEIGHTS))
        return read_stages(run)["train"], {str(path.relative_to(run.root)): path.read_bytes() for path in found}


def measure(prepared: Run, rounds: int, changes: list[str]) -> dict[str, Any]:
    """Both by turns, the first of each round by turns too."""
    stages: dict[tuple[str, ...], list[dict[str, float]]] = {BESIDE: [], ALONE: []}
    for number in range(rounds):
        weights = []
        for how in ((BESIDE, ALONE), (ALONE, BESIDE))[number % 2]:
            took, found = trained(prepared, how, changes)
            stages[how].append(took)
            weights.append(found)
        records.stop_on(["the weights differ"] if weights[0] != weights[1] else [])
    return {"machine": records.machine(), "dataset": prepared.root.name, "changes": changes, **compared(stages)}


def compared(stages: dict[tuple[str, ...], list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of both, and the rounds' ratios."""
    ratios = [alone["seconds"] / beside["seconds"] for alone, beside in zip(stages[ALONE], stages[BESIDE])]
    return {
        "rounds": len(ratios),
        **{
            f"{name}_{unit}": median(took[unit] for took in stages[how])
            for name, how in (("beside", BESIDE), ("alone", ALONE))
            for unit in ("seconds", "peak_mb")
        },
        "ratio": round(median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a prepared run folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every model, as in `train`")
    parser.add_argument("--out", type=Path, default=records.SIDE_BY_SIDE)
    given = parser.parse_args()
    records.conclude(given.out, measure(Run(given.run.resolve()), given.rounds, given.set), [])
    records.write()


if __name__ == "__main__":
    main()
