"""Random command lines over random small datasets: no traceback, no hang, no half-written file.

`STORM_COMMANDS` is how many command lines there are, `STORM_SEED` what they are drawn from.
"""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from core.artifacts import MANIFEST, verify
from tests.storm import IMPORTED, ROOT, World, command_lines, make_world, run_command, whole_pipeline

COMMANDS = int(os.environ.get("STORM_COMMANDS", "25"))
SEED = int(os.environ.get("STORM_SEED", "0"))
OF_A_WORLD = 12  # command lines over one dataset
HANGS = 300  # seconds, for a command that takes about ten on a free core
STOPPED = 0.2  # the share of commands that are stopped by a signal
LATEST_STOP = 4.0  # seconds


@dataclass
class Storm:
    """What was run, for the message of a failure; and the temporary files that killed commands have left."""

    processes: multiprocessing.context.BaseContext
    port: int
    lines: list[str] = field(default_factory=list)
    left_over: set[Path] = field(default_factory=set)
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)

    def run(self, world: World, line: list[str], stop: signal.Signals | None = None, after: float = 0) -> int:
        """Runs a command line, and checks how it ended and what it left. Returns the exit code."""
        output, errors = world.folder / "output.txt", world.folder / "errors.txt"
        variables = environment(world)
        ready = self.processes.Event()
        process = self.processes.Process(
            target=run_command, args=(line, world.folder, variables, output, errors, ready)
        )
        self.lines.append(f"{line}" + (f" {stop.name} after {after:.2f} s" if stop else ""))
        process.start()
        assert ready.wait(HANGS), f"{line} does not start"
        if stop:
            process.join(after)
            if process.exitcode is None:
                os.kill(process.pid, stop)
        self._wait(process)
        said, written = errors.read_text(encoding="utf-8"), output.read_text(encoding="utf-8")
        what = f"{self.lines[-1]} ended with {process.exitcode}\n{said[-3000:]}\n{written[-500:]}"
        self.ended[line[0], process.exitcode] += 1
        allowed = {None: (0, 2), signal.SIGINT: (0, 2, 130), signal.SIGKILL: (0, 2, -9)}[stop]
        assert process.exitcode in allowed, what
        assert "Traceback" not in said + written, what
        assert not set(said + written) & set("\x1b\x07"), what
        if process.exitcode == 2:
            assert [row[:7] for row in said.splitlines()] == ["error: "], what
        if process.exitcode == 130:  # an error may have been reported just before
            assert said.splitlines()[-1:] == ["stopped"] or not said or said.startswith("error: "), what
        try:
            self._check_files(world, killed=process.exitcode == -9)
        except Exception as error:
            raise AssertionError(f"{error!r}\n{what}") from error
        return process.exitcode

    def _wait(self, process: BaseProcess) -> None:
        process.join(HANGS)
        hung = process.exitcode is None
        if hung:
            os.killpg(process.pid, signal.SIGABRT)
            process.join(10)
        deadline = time.monotonic() + 30
        while rest := [one for one in psutil.process_iter() if of_session(one, process.pid)]:
            if time.monotonic() > deadline:
                for one in rest:
                    one.kill()
                raise AssertionError(f"{self.lines[-1]} left {rest}")
            time.sleep(0.1)
        assert not hung, f"{self.lines[-1]} hangs"

    def _check_files(self, world: World, killed: bool) -> None:
        """Every sealed folder is whole, every JSON file is JSON, nothing temporary is there but what a kill left."""
        temporary = set()
        for path in sorted(world.folder.rglob("*")):
            if any(".partial-" in part for part in path.relative_to(world.folder).parts):
                temporary.add(path)
            elif path.name == MANIFEST:
                verify(path.parent)
            elif path.suffix == ".json" and path.is_file():
                json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        temporary |= set((world.folder / "temporary").glob("*marquee*"))
        if killed:
            self.left_over |= temporary
        assert temporary <= self.left_over, f"left over: {sorted(temporary - self.left_over)}"
        self.left_over &= temporary


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def of_session(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def environment(world: World) -> dict[str, str]:
    """No network, one thread, and temporary files where they are looked for."""
    nowhere = "http://127.0.0.1:9"
    return {
        "MARQUEE_DATA": str(world.folder / "home"),
        "TMPDIR": str(world.folder / "temporary"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
        **{"PIP_NO_INDEX": "1", "PIP_RETRIES": "0", "PYTHONPATH": str(ROOT)},
    }


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> multiprocessing.context.BaseContext:
    """Forks of a process that has imported everything."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    first = context.Process(target=int)
    first.start()
    first.join(HANGS)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


@pytest.mark.slow
@pytest.mark.timeout(HANGS + 60 * COMMANDS)
def test_a_storm_of_command_lines_leaves_nothing_broken(processes, tmp_path):
    with socket.socket() as nothing_listens:
        nothing_listens.bind(("127.0.0.1", 0))
        storm = Storm(processes, nothing_listens.getsockname()[1])
        done = 0
        while done < COMMANDS:
            number = done // OF_A_WORLD
            world = make_world(tmp_path / f"world {number}", SEED * 1000 + number)
            lines = command_lines(world, storm.port)
            line = next(lines)
            for _ in range(min(OF_A_WORLD, COMMANDS - done)):
                stop = world.one_of(signal.SIGINT, signal.SIGKILL) if world.chance(STOPPED) else None
                try:
                    code = storm.run(world, line, stop, float(world.rng.uniform(0, LATEST_STOP)))
                except AssertionError as error:
                    before = "\n".join(storm.lines)
                    raise AssertionError(f"world {number} of seed {SEED}, {world.data}:\n{before}\n{error}") from None
                line = lines.send(code)
                done += 1
            if storm.left_over:  # the next run clears what killed commands have left
                for line in whole_pipeline(world):
                    storm.run(world, line)
                assert not storm.left_over, f"{storm.lines}\nleft over: {storm.left_over}"
            storm.lines.clear()
