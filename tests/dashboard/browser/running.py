"""What the browser tests start: a run of the main environment, its Triton, and the page."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ensemble.server.ports import free_port, private_port
from tests.conftest import write_movielens
from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[3]
MAIN = Path(os.environ.get("MARQUEE_PYTHON", ROOT / ".venv" / "bin" / "python"))  # runs everything but the page
GIVEN_RUN = "MARQUEE_TEST_RUN"  # an exported run folder to copy, in the place of a small one that is made
CHROMIUM = "/usr/bin/chromium"
MARKUP = '<script>window.marked = 1</script> **bold** <img src=x onerror="window.marked = 2"> $x_1$ :smile:'
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 518 245" fill="currentColor">'
    '<script>window.marked = 3</script><rect x="60" y="20" width="80" height="180" fill="#0072B2"/>'
    '<text x="60" y="225" font-size="14">a bar</text></svg>'
)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls; fails after the time in which anything that does not hang has happened."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


class Process:
    """A command of the main environment, in the background; its output goes to a file."""

    def __init__(self, arguments: list[str], log: Path):
        self.log = log
        with log.open("wb") as output:
            self.running = subprocess.Popen(
                [MAIN, "-m", "marquee", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def says(self, text: str) -> bool:
        """Whether its output holds a text; fails where it has ended."""
        said = self.log.read_text(errors="replace")
        assert text in said or self.running.poll() is None, said
        return text in said

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it as a user does. Returns the exit code."""
        if self.running.poll() is None:
            self.running.send_signal(number)
        return self.running.wait(timeout=HANG_SECONDS)


class Served:
    """`serve`, always on the same port."""

    def __init__(self, run: Path):
        self.run, self.port = run, private_port()
        self.url = f"127.0.0.1:{self.port}"
        self.process: Process | None = None

    def start(self) -> None:
        where = ["--dataset", self.run.name, "--runs", str(self.run.parent)]
        self.process = Process(["serve", *where, "--port", str(self.port)], self.run.parent / "serve.log")
        wait_until(lambda: self.process.says("Triton answers"), "Triton")

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None


class Page:
    """`dashboard`, beside a server."""

    def __init__(self, run: Path, server: str, people: Path | None = None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.people = people or run.parent / "people.sqlite3"
        where = ["--dataset", run.name, "--runs", str(run.parent), "--server", server, "--database", str(self.people)]
        log = run.parent / f"dashboard-{self.port}.log"
        self.process = Process(["dashboard", *where, "--port", str(self.port)], log)
        wait_until(lambda: self.process.says("The page:") and self._is_up(), "the page")

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=HANG_SECONDS) as answer:
                return answer.status == 200
        except OSError:
            return False


def given_run() -> Path:
    """The run that the tools look at: what `$MARQUEE_TEST_RUN` names, or ML-100K's."""
    return Path(os.environ.get(GIVEN_RUN, ROOT / "runs" / "ml-100k"))


@contextmanager
def page_over_copy(given: Path) -> Iterator[str]:
    """The address of a page beside a server, both over a copy of an exported run, without its logs and people."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, given.name)
        shutil.copytree(given, run, ignore=shutil.ignore_patterns("*.log*", "people*"))
        server = Served(run)
        server.start()
        page = Page(run, server.url)
        try:
            yield page.url
        finally:
            page.process.stop()
            server.stop()


def exported_run(folder: Path) -> Path:
    """A run folder with an exported repository and a report of two pictures, to be changed at will."""
    given = os.environ.get(GIVEN_RUN)
    if given:
        run = folder / Path(given).name
        shutil.copytree(given, run, ignore=shutil.ignore_patterns("*.log*", "people*", "report"))
    else:
        run = folder / "ml-latest-small"
        data = write_movielens(folder / "data")
        arguments = ["run", "--dataset", run.name, "--runs", str(folder), "--data", str(data), "--epochs", "1"]
        done = Process(arguments, folder / "run.log")
        assert done.running.wait(timeout=HANG_SECONDS) == 0, done.log.read_text()
    return run


def mark_title(run: Path) -> int:
    """Gives the most rated movie a title that is markup to whatever takes it for markup. Returns its id."""
    path = run / "tables" / "movies.parquet"
    movies = pd.read_parquet(path)
    most = int(pd.read_parquet(run / "tables" / "ratings.parquet")["movieId"].value_counts().index[0])
    movies.loc[movies["movieId"] == most, "title"] = MARKUP
    movies.to_parquet(path, index=False)
    return most


def write_report(run: Path) -> None:
    """A report's pictures, as `report` writes them, with markup in the words."""
    (run / "report" / "pictures").mkdir(parents=True)
    listed = [
        {
            "name": name,
            "section": name,
            "title": f"A picture of {name} <b>",
            "text": f"It shows {name}, <i>not</i> more.",
        }
        for name in ("data", "comparison")
    ]
    for one in listed:
        (run / "report" / "pictures" / f"{one['name']}.svg").write_text(PICTURE)
    (run / "report" / "pictures.json").write_text(json.dumps(listed))
