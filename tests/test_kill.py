"""`run`, killed at random moments: the next `run` ends as if nothing had happened, and nothing is left over.

`KILLS` is the number of moments, 2 unless it is set, and `KILL_SEED` what they are drawn from.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from core.json_files import read_json
from core.run_folder import Run
from tests.conftest import write_movielens

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("KILLS", "2"))
KILL_SEED = int(os.environ.get("KILL_SEED", "0"))
IN_ONE_FOLDER = 5  # kills before a run may end
DATASET = "ml-latest-small"
HANG = 600.0  # seconds
ENDING = 60.0  # seconds that what a killed command has started may take to end
TIMES = {"seconds", "train_seconds", "samples_per_second", "stages", "peak_mb", "generated_timestamp"}
# Made from files with times in them, or from the names of partial folders, which Merlin writes into its own files.
OF_TIMES = {"fingerprint", "sha256", "serial"}
CARDS = ("MODEL_CARD.md", "model_card.md")  # they say how long training took
NOT_BY_BYTES = {"config.json", "history.json", "metadata.json", "workflow.pkl", "schema.pbtxt", "schema.json", *CARDS}
STAMP = ".evaluation-stamp.json"  # `models` in it stands for files with times in them
NOT_COMPARED = ("triton.log", "triton.log.1", "stages.json", "workflow.pkl")
JSON = ("manifest.json", STAMP, "config.json", "history.json", "evaluation.json", "metadata.json")
PARTIAL = re.compile(rb"[^\s\"]*\.partial-\d+-[0-9a-f]{8}")
PREFIX = re.compile(r"shm-region-prefix-name=(marquee-[0-9a-f]+)-")


@dataclass
class Started:
    """A command in a process group of its own.

    Attributes:
        log: its output.
        family: every process that was seen to belong to it.
        memory: the names of its servers' shared memory, as far as they are seen.
    """

    process: subprocess.Popen
    log: Path
    family: set[psutil.Process] = field(default_factory=set)
    memory: set[str] = field(default_factory=set)

    def end(self) -> None:
        """Kills what is left of it."""
        self.process.kill()
        for one in self.family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(30)

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.family.add(child)
                with suppress(psutil.Error):
                    self.memory.update(PREFIX.findall(" ".join(child.cmdline())))

    def wait(self, seconds: float) -> bool:
        """Waits, but no longer than that. Returns whether it has ended."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.look()
            time.sleep(0.2)
        return self.process.poll() is not None

    @property
    def stage(self) -> str:
        """The stage that it was in when it ended."""
        stages = re.findall(r"^(\w+) ─+$", self.log.read_text(), re.MULTILINE)
        return stages[-1] if stages else "start"


@dataclass
class Place:
    """Where the commands of a test keep everything, and the commands."""

    root: Path
    commands: list[Started] = field(default_factory=list)

    def start(self, name: str) -> Started:
        runs = self.root / name
        temporary = self.root / f"{name}-temporary"
        temporary.mkdir(exist_ok=True)
        # fmt: off
        command = [
            sys.executable, "-m", "marquee", "run", "--dataset", DATASET, "--data", self.root / "data",
            "--runs", runs, "--epochs", "2", "--device", "cpu", "--threads", "1",
        ]
        # fmt: on
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        environment = {**kept, "TMPDIR": str(temporary), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        log = self.root / f"{name}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Started(process, log))
        return self.commands[-1]

    def left_over(self, name: str) -> list[str]:
        """Partial files and folders, and temporary folders of ours."""
        partial = (self.root / name).rglob(".*.partial-*")
        checkpoints = (self.root / name).rglob(".*.checkpoint")
        return [str(one) for one in (*partial, *checkpoints, *(self.root / f"{name}-temporary").glob("marquee-*"))]


def without(value: Any, keys: set[str]) -> Any:
    """JSON without some keys, wherever they are."""
    if isinstance(value, dict):
        return {key: without(one, keys) for key, one in value.items() if key not in keys}
    return [without(one, keys) for one in value] if isinstance(value, list) else value


def content(root: Path) -> dict[str, Any]:
    """Every file of a run: the SHA-256 of its bytes, or what its JSON holds besides wall times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.name in NOT_COMPARED or not path.is_file():
            continue
        if path.name in JSON:
            value = read_json(path)
            listed = value.get("files", {}) if isinstance(value, dict) else {}
            not_by_bytes = {name for name in listed if {*Path(name).parts} & {*NOT_BY_BYTES, "manifest.json"}}
            found[path.relative_to(root).as_posix()] = without(
                value, TIMES | OF_TIMES | not_by_bytes | ({"models"} if path.name == STAMP else set())
            )
        else:
            found[path.relative_to(root).as_posix()] = hashlib.sha256(_bytes(path)).hexdigest()
    return found


def _bytes(path: Path) -> bytes:
    """Those of a file, without seconds; the sorted words of Merlin's schemas: tags have no order, and name folders."""
    if path.name in CARDS:
        return re.sub(rb"[\d,]+ s \(on", b"", path.read_bytes())
    if path.name not in ("schema.pbtxt", "schema.json"):
        return path.read_bytes()
    return b" ".join(sorted(re.findall(rb"[^\s,\[\]]+", PARTIAL.sub(b"", path.read_bytes()))))


def table(output: str) -> list[str]:
    """What `run` prints at its end, without wall times and the folder's name."""
    _, tables = output.split("What will they watch next?", 1)
    tables, _ = tables.split("Stages:", 1)
    return [re.sub(r"(\d[\d,]*|under 1) s\b|\s+|─+", " ", line).strip() for line in tables.splitlines()]


def killed(started: Started) -> list[str]:
    """Kills the command alone, and waits for what it has started. Returns the command lines of what lives on."""
    started.look()
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait(30)
    _, alive = psutil.wait_procs(list(started.family), timeout=ENDING)
    return [str(one) for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for command in place.commands:
        command.end()


@pytest.mark.slow
@pytest.mark.timeout(HANG * (KILLS + 2))
def test_run_killed_at_random_moments_ends_with_the_same_table_and_the_same_files(place, tmp_path, capsys):
    write_movielens(tmp_path / "data")
    began = time.monotonic()
    undisturbed = place.start("undisturbed")
    assert undisturbed.wait(HANG)
    duration = time.monotonic() - began
    output = undisturbed.log.read_text()
    assert undisturbed.process.returncode == 0, output
    assert place.left_over("undisturbed") == []
    right = content(Run(tmp_path / "undisturbed" / DATASET).root)

    rng = np.random.default_rng(KILL_SEED)
    moments = list(duration * (rng.permutation(KILLS) + rng.random(KILLS)) / KILLS)
    memory: set[str] = set()
    killed_after: list[str] = []
    for number in range(10 * KILLS):
        name = f"run-{number}"
        ended = False
        for _ in range(IN_ONE_FOLDER):
            if not moments:
                break
            started = place.start(name)
            ended = started.wait(moments[-1])
            if ended:  # it had little left to do, or the machine has
                moments[-1] *= 0.7
                break
            assert killed(started) == []
            killed_after.append(f"{moments.pop():.1f} s, {started.stage}")
            memory |= started.memory
        if not ended:
            started = place.start(name)
            assert started.wait(HANG)
        memory |= started.memory
        assert started.process.returncode == 0, started.log.read_text()
        assert table(started.log.read_text()) == table(output), killed_after
        assert place.left_over(name) == [], killed_after
        left = content(Run(tmp_path / name / DATASET).root)
        assert {path for path in {*left, *right} if left.get(path) != right.get(path)} == set(), killed_after
        if not moments:
            break
    assert not moments
    assert not [path for path in Path("/dev/shm").glob("marquee-*") if path.name.startswith(tuple(memory or {"-"}))]
    with capsys.disabled():
        print(f"\nundisturbed {duration:.0f} s, killed after: {'; '.join(killed_after)}")
