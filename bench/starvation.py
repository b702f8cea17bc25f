"""One-pair `score` beside twelve clients that ask for 262,144 pairs each: what the small requests wait.

The large requests must be answered, or refused at once because the server is busy; none may be lost.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import inputs
import records
from attackers import LARGEST_BATCHES, attacking
from attacks import LARGE_CLIENTS
from good_clients import ASKS, PATIENCE, percentiles, questions
from served import served

SECONDS = 60.0
ALONE_SECONDS = 10.0
START_SECONDS = 5.0  # until the large clients are there
LONGEST_P99 = 100.0  # ms
PAUSE = 0.01  # seconds between two small requests
ANSWERED, SHED = "OK", "RESOURCE_EXHAUSTED"


def measure(run_folder: Path, seconds: float) -> dict[str, Any]:
    """Small requests alone, then beside the large ones."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository = Path(shutil.copytree(run_folder / "repository", folder / "run" / "repository"))
        with served(repository, folder) as running:
            small = [one for one in questions(repository) if one.kind == "score" and len(one.numbers) == 1]
            ask = ASKS["grpc"](running.target, PATIENCE)

            def asked(long: float) -> dict[str, Any]:
                waits, wrong, until = [], 0, time.monotonic() + long
                while time.monotonic() < until:
                    question = small[len(waits) % len(small)]
                    began = time.monotonic()
                    wrong += not question.is_right(ask(question.kind, question.tensors))
                    waits.append(time.monotonic() - began)
                    time.sleep(PAUSE)
                return {"requests": len(waits), "wrong": wrong, **percentiles(waits)}

            alone, pids = asked(ALONE_SECONDS), running.pids()
            large_seconds = seconds + START_SECONDS
            began = time.monotonic()
            with attacking(running.target, large_seconds, [[LARGEST_BATCHES]], turn=large_seconds) as attackers:
                time.sleep(START_SECONDS)
                beside = asked(seconds)
            took = time.monotonic() - began
            counts = attackers.outcomes[LARGEST_BATCHES]
            return {
                "machine": records.machine(),
                "seconds": seconds,
                "large_clients": LARGE_CLIENTS,
                "alone": alone,
                "beside": beside,
                "large_answered": counts[ANSWERED],
                "large_shed": counts[SHED],
                "large_lost": {outcome: n for outcome, n in counts.items() if outcome not in (ANSWERED, SHED)},
                "large_seconds": round(took, 1),
                "same_processes": running.pids() == pids,
            }


def troubles(found: dict[str, Any]) -> list[str]:
    """What should not be in the figures."""
    wrong = []
    if found["beside"]["p99_ms"] > LONGEST_P99:
        wrong.append(f"the 99th percentile of small requests is {found['beside']['p99_ms']} ms")
    if found["beside"]["wrong"] or found["alone"]["wrong"]:
        wrong.append("small requests were answered wrongly")
    if found["large_lost"] or not found["large_answered"]:
        wrong.append(f"large requests: {found['large_answered']} answered, lost: {found['large_lost']}")
    if not found["same_processes"]:
        wrong.append("Triton or the front door was started again")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--out", type=Path, default=records.STARVATION)
    given = parser.parse_args()
    found = measure(given.run, given.seconds)
    records.conclude(given.out, found, troubles(found))


if __name__ == "__main__":
    main()
