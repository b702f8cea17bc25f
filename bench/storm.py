"""Every attack at once, for ten minutes, beside clients whose answers are held against the exported files.

`serve` is started with a secret; attackers have it every other time. It must be the same Triton at the end; the front
door may be replaced, but only as it had grown (grpc/grpc#43360). No request of the good clients may fail or be answered
wrongly, and memory must stay what it was after a first round of attacks.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import inputs
import records
from attackers import LANES, TURN, WITHOUT, attacking, table
from faults import DOOR_BACK
from good_clients import Clients
from served import served

from ensemble.server.growth import HOLDS_MORE

SECRET = "storm-of-the-benchmarks"
MINUTES = 10.0
WARM_UP_TURN = 2.0  # seconds of each attack, with and without the secret, before memory is measured
SETTLE_SECONDS = 25.0  # the front door gives freed memory back every ten seconds
GROWTH = 1.1  # times what was held after the first round
RENEWAL = (HOLDS_MORE, *DOOR_BACK)  # what `serve` says of one


def measure(run_folder: Path, minutes: float, warm_up: float, turn: float) -> dict[str, Any]:
    """The storm, on a copy of the run's repository.

    Args:
        warm_up: seconds of each attack before memory is measured.
        turn: seconds of an attack, before the next one's turn comes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository = Path(shutil.copytree(run_folder / "repository", folder / "run" / "repository"))
        with served(repository, folder, SECRET) as running, Clients(running.target, repository) as clients:
            first = 2 * warm_up * max(map(len, LANES))
            with attacking(running.target, first, turn=warm_up):
                pass
            time.sleep(SETTLE_SECONDS)
            seen = clients.take()  # the warm-up's count too
            before, triton, said = running.memory(), running.triton().pid, len(running.told())
            with attacking(running.target, minutes * 60, turn=turn, whole_round=True, seed=1) as attackers:
                pass
            time.sleep(SETTLE_SECONDS)
            seen.add(clients.take())
            told = running.told()[said:]
            return {
                "machine": records.machine(),
                "minutes": minutes,
                "same_triton": running.triton().pid == triton,
                "right": seen.right,
                "wrong": seen.wrong,
                "failed": len(seen.failures),
                "reasons": seen.reasons,
                "latencies": seen.latencies(),
                "memory_before_mb": round(before),
                "memory_after_mb": round(running.memory()),
                "attacks": table(attackers.outcomes),
                "renewals": sum(HOLDS_MORE in line for line in told),
                "told": told,
            }


def troubles(found: dict[str, Any]) -> list[str]:
    """What should not be in the figures of a storm."""
    wrong = []
    if not found["same_triton"]:
        wrong.append("Triton is another process than at the start")
    if repairs := [line for line in found["told"] if not any(words in line for words in RENEWAL)]:
        wrong.append(f"serve said {'; '.join(repairs)}")
    if found["wrong"] or found["failed"] or not found["right"]:
        counts = f"{found['right']} right, {found['wrong']} wrong, {found['failed']} failed"
        wrong.append(f"good requests: {counts} {found['reasons'] or ''}")
    wrong += records.memory_troubles(found, GROWTH)
    if missing(found):
        wrong.append(f"attacks that were not made: {', '.join(missing(found))}; give each a longer turn")
    return wrong


def missing(found: dict[str, Any]) -> list[str]:
    """The attacks that were never made, with or without the secret."""
    made = {label.removesuffix(WITHOUT) for label, outcomes in found["attacks"].items() if outcomes}
    return [name for lane in LANES for name in lane if name not in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_TURN, help="seconds of each attack in the first round")
    parser.add_argument(
        "--turn", type=float, default=TURN, help="seconds of an attack, before the next one's turn comes"
    )
    parser.add_argument("--out", type=Path, default=records.STORM)
    given = parser.parse_args()
    found = measure(given.run, given.minutes, given.warm_up, given.turn)
    records.conclude(given.out, found, troubles(found))


if __name__ == "__main__":
    main()
