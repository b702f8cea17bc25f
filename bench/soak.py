"""An hour of clients whose answers are held against the exported files, with a fault every minute.

The clients are those of `faults.py`, and so are the faults, drawn with a seed. Figures are written each minute, so that
a run that is ended early has those of the minutes that it ran.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import inputs
import records
from good_clients import Clients, Seen
from served import served

MINUTES = 60
MINUTE = 60.0
GROWTH = 1.2  # times what was held after the first minute
UNDO, AFTER = "rollback", "a new version"  # the first only makes sense after the second


def drawn(seed: int) -> Iterator[faults.Fault]:
    """Faults without end, in an order that the seed decides: each of them once before one comes again."""
    rng = random.Random(seed)
    while True:
        for fault in rng.sample(faults.FAULTS, len(faults.FAULTS)):
            if fault.name == UNDO:
                continue
            yield fault
            if fault.name == AFTER:
                yield faults.BY_NAME[UNDO]


def measure(run_folder: Path, minutes: int, seed: int, out: Path) -> dict[str, Any]:
    """A fault each minute, and the figures after each."""
    rows: list[dict[str, Any]] = []
    seen = Seen()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository = Path(shutil.copytree(run_folder / "repository", folder / "run" / "repository"))
        with served(repository, folder) as running, Clients(running.target, repository) as clients:
            time.sleep(MINUTE / 2)  # until memory is what it is under load
            seen.add(clients.take())
            before = running.memory()
            for minute, fault in zip(range(1, minutes + 1), drawn(seed)):
                began = time.monotonic()
                row, during = faults.one(fault, running, repository, clients)
                seen.add(during)
                time.sleep(max(0.0, began + MINUTE - time.monotonic()))
                rest = clients.take()
                seen.add(rest)
                later = {"failed_later": len(rest.failures), "wrong_later": rest.wrong}
                rows.append({"minute": minute, **row, **later})
                figures = summary(rows, seen, seed, before, row["memory_after_mb"] or before)
                records.save(out, figures)
                print(json.dumps(rows[-1]), flush=True)
    return figures


def summary(rows: list[dict[str, Any]], seen: Seen, seed: int, before: float, after: float) -> dict[str, Any]:
    """The figures of all minutes so far."""
    return {
        "machine": records.machine(),
        "minutes": len(rows),
        "seed": seed,
        "right": seen.right,
        "wrong": seen.wrong,
        "failed": len(seen.failures),
        "reasons": seen.reasons,
        "latencies": seen.latencies(),
        "memory_before_mb": round(before),
        "memory_after_mb": round(after),
        "faults": by_fault(rows),
        "rows": rows,
    }


def by_fault(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How often each fault was made, and what became of the requests."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(row["fault"], {"times": 0, "failed": 0, "wrong": 0, "seconds": 0.0})
        one["times"] += 1
        one["failed"] += row["failed"] + row["failed_later"]
        one["wrong"] += row["wrong"] + row["wrong_later"]
        one["seconds"] = max(one["seconds"], row["seconds_to_recover"])
    return dict(sorted(found.items()))


def troubles(found: dict[str, Any]) -> list[str]:
    """What should not be in the figures."""
    wrong = [f"{found['wrong']} answers were wrong"] if found["wrong"] else []
    wrong += [
        f"{row['fault']}: serve said {row['told']}"
        for row in found["rows"]
        if not faults.BY_NAME[row["fault"]].is_told(row["told"])
    ]
    wrong += records.memory_troubles(found, GROWTH)
    for name, one in found["faults"].items():
        if one["seconds"] > faults.RECOVERED or (one["failed"] and name in faults.SAFE):
            wrong.append(f"{name}: {one['failed']} failed, {one['seconds']} s to recover")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=records.SOAK)
    given = parser.parse_args()
    records.stop_on(troubles(measure(given.run, given.minutes, given.seed, given.out)))


if __name__ == "__main__":
    main()
