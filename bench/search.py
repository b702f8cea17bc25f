"""Searches the settings of every model and protocol of a dataset with the same seconds, and ships what it finds.

python bench/search.py --dataset ml-100k        # 10 minutes for each study, two at a time on one thread each
python bench/search.py --dataset ml-1m --protocol leave-one-out --model mf --jobs 1

The run needs `prepare` alone. Each study has a run folder of its own under the work folder, with links to the run's
tables and features, so that several can be written at once. What was stopped goes on where it was: run it again. What
has ended is passed over; delete its folder to search again. `log.txt` in the work folder says where the search is.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inputs import ROOT, WORK, linked

from core.json_files import read_json, write_json
from core.run_folder import Run
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.registry import tunable

SECONDS = {"ml-100k": 600, "ml-1m": 2400}
BASELINE_TRIALS = 200  # at most: a baseline of one or two parameters is fitted in a fraction of a second
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study to run.

    Attributes:
        folder: of its own, in which the run folder lies, the output and what says that it has ended.
    """

    run: Run
    protocol: str
    model: str
    seconds: int
    folder: Path

    @property
    def command(self) -> list[str]:
        found = ["tune", "--dataset", self.run.root.name, "--runs", str(self.folder), "--ship", "--threads", "1"]
        found += ["--protocol", self.protocol, "--model", self.model, "--seconds", str(self.seconds)]
        return found if self.model in NETWORKS else [*found, "--trials", str(BASELINE_TRIALS)]

    def has_ended(self) -> bool:
        """Whether it had as many seconds before."""
        path = self.folder / "done.json"
        return path.is_file() and read_json(path)["seconds"] >= self.seconds

    def link(self) -> None:
        """Makes its run folder."""
        linked(self.run, self.folder)

    def search(self, say: Callable[[str], None]) -> bool:
        """Runs it to its end; returns whether it ended well."""
        if self.has_ended():
            say("has ended before")
            return True
        self.link()
        say("begins")
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "marquee", *self.command]
            code = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **ONE_THREAD}
            ).returncode
        if code:
            say(f"failed with exit code {code}: see {self.folder / 'log.txt'}")
            return False
        write_json(self.folder / "done.json", {"seconds": self.seconds})
        study = read_json(Run(self.folder / self.run.root.name).tuning(self.protocol, self.model) / "best.json")[
            "study"
        ]
        counts = ", ".join(f"{study[state]} {state}" for state in ("complete", "pruned", "failed", "cut"))
        say(f"ends: {counts}, {study['seconds']:.0f} s, best {study['metric']} {study['value']:.4f}")
        return True


def studies(run: Run, work: Path, seconds: int, protocols: list[str], models: list[str]) -> list[Study]:
    """Every study of the protocols, in their order; only those of some models where any are named."""
    return [
        Study(run=run, protocol=protocol, model=model, seconds=seconds, folder=work / f"{protocol}-{model}")
        for protocol in protocols
        for model in tunable(protocol)
        if not models or model in models
    ]


def search(found: list[Study], work: Path, jobs: int) -> bool:
    """Runs studies, so many at a time; returns whether all ended well."""
    work.mkdir(parents=True, exist_ok=True)

    def one(place: int, study: Study) -> bool:
        def say(what: str) -> None:
            line = f"{time.strftime('%F %T')} {place} of {len(found)}: {study.protocol}, {study.model} {what}"
            print(line, flush=True)
            with open(work / "log.txt", "a", encoding="utf-8") as log:
                log.write(line + "\n")

        return study.search(say)

    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(one, range(1, len(found) + 1), found)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Searches every model's settings with the same seconds, and ships them."
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", metavar="FOLDER", help="where run folders are kept")
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="where the studies are kept; default: .bench/search"
    )
    parser.add_argument(
        "--seconds", type=int, metavar="S", help="of each study; default: 600 for ml-100k, 2400 for ml-1m"
    )
    parser.add_argument("--protocol", action="append", choices=list(PROTOCOLS), help="may be repeated; default: all")
    parser.add_argument("--model", action="append", default=[], help="may be repeated; default: all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="studies at a time, each on one thread")
    options = parser.parse_args()
    work = options.work or WORK / "search" / options.dataset
    seconds = options.seconds or SECONDS.get(options.dataset)
    if seconds is None:
        parser.error(f"give --seconds for {options.dataset}")
    run = Run((options.runs / options.dataset).resolve())
    if not run.features.is_dir():
        parser.error(f"{run.root} has no features; run: {run.command('prepare')}")
    chosen = studies(run, work.resolve(), seconds, options.protocol or list(PROTOCOLS), options.model)
    sys.exit(0 if search(chosen, work.resolve(), options.jobs) else 1)


if __name__ == "__main__":
    main()
