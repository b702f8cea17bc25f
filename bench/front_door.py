"""What the front door costs: the same load on a Triton that is asked directly and on one behind it, in turns.

Each is started for its turn and stopped after it, so that only one is there at a time; the order changes with each
round. `perf_analyzer` asks. Figures are medians over the rounds, ratios and differences medians of the rounds' own.
Where the run has Merlin Systems' repository too, its runtime takes part.
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import records
import serving
from served import served

ROUNDS = 5
# What a change may not make worse; the aim, 0.6 of the direct requests/s and 0.6 ms more, is missed (README.md here).
LEAST_RATIO = 0.3  # of the direct requests/s
MOST_ADDED = 3.0  # ms at the median
BOUND = ("score, 1 client", "score, 8 clients")  # what these are for
DIRECT, BEHIND, MERLIN = "direct", "behind", "merlin"

Rounds = list[dict[str, dict[str, float]]]  # of each round, figures by side


def measure(run_folder: Path, rounds: int) -> dict[str, Any]:
    """Every load on every side, round by round."""
    from core.run_folder import Run

    run = Run(run_folder)
    loads = _loads(run)
    figures: dict[str, Rounds] = {what: [{} for _ in range(rounds)] for what in loads}
    sides = [DIRECT, BEHIND, *([MERLIN] if run.reference_repository.is_dir() else [])]
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                with _started(side, run, Path(temporary) / f"{side}-{number}") as server:
                    for what, (model, questions, clients) in loads.items():
                        if side != MERLIN or model == "score":
                            asked = "merlin_dlrm" if side == MERLIN else model
                            given = [
                                {k: v for k, v in one.items() if side != MERLIN or k != "model"} for one in questions
                            ]
                            figures[what][number][side] = serving.load(server.url, asked, given, clients)
            print(f"round {number + 1}: {[found[number] for found in figures.values()]}", flush=True)
    return {
        "machine": records.machine(),
        "dataset": run_folder.name,
        "rounds": rounds,
        "rows": [compared(what, found) for what, found in figures.items()],
    }


def _started(side: str, run: Any, folder: Path) -> contextlib.AbstractContextManager[Any]:
    """A server, alone on the machine."""
    folder.mkdir()
    if side == BEHIND:
        return served(run.repository, folder)
    return serving.direct("marquee" if side == DIRECT else "merlin", run, folder / "triton.log")


def _loads(run: Any) -> dict[str, tuple[str, list[dict[str, Any]], int]]:
    """Model, questions and number of clients."""
    rng = np.random.default_rng(serving.SEED)
    users, movies = serving.ids(run, "user_id"), serving.ids(run, "movie_id")
    people, titles = rng.choice(users, serving.USERS), rng.choice(movies, serving.USERS)
    score = [{"user_id": [int(u)], "movie_id": [int(m)], "model": ["dlrm"]} for u, m in zip(people, titles)]
    recommend = [{"user_id": [int(u)], "k": [10], "strategy": ["exact"]} for u in people]
    return {
        BOUND[0]: ("score", score, 1),
        BOUND[1]: ("score", score, 8),
        "recommend, exact, 1 client": ("recommend", recommend, 1),
    }


def compared(what: str, rounds: Rounds) -> dict[str, Any]:
    """The medians of a load, with what the rounds' ratios and differences range over."""
    speed, wait = "requests_per_second", "p50_ms"
    ratios = [one[BEHIND][speed] / one[DIRECT][speed] for one in rounds]
    added = [one[BEHIND][wait] - one[DIRECT][wait] for one in rounds]
    row = {
        "what": what,
        **{
            f"{side}_{name}": round(statistics.median(one[side][name] for one in rounds), 3)
            for side in (DIRECT, BEHIND)
            for name in (speed, wait, "p99_ms")
        },
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "added_ms": round(statistics.median(added), 3),
        "added_range": [round(min(added), 3), round(max(added), 3)],
    }
    if all(MERLIN in one for one in rounds):
        times = [one[BEHIND][speed] / one[MERLIN][speed] for one in rounds]
        row["times_merlin"] = round(statistics.median(times), 1)
    return row


def troubles(found: dict[str, Any]) -> list[str]:
    """What should not be in the figures."""
    wrong = []
    for row in found["rows"]:
        if row["what"] not in BOUND:
            continue
        if row["ratio"] < LEAST_RATIO:
            wrong.append(f"{row['what']}: {row['ratio']} of the direct requests/s")
        if row["added_ms"] > MOST_ADDED:
            wrong.append(f"{row['what']}: {row['added_ms']} ms more at the median")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=records.FRONT_DOOR)
    given = parser.parse_args()
    found = measure(given.run, given.rounds)
    records.conclude(given.out, found, troubles(found))


if __name__ == "__main__":
    main()
