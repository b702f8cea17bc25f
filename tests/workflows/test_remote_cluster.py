"""A Dask cluster that was started as people start one, anywhere: it works, and what ends it is one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from core.errors import UserError
from core.run_folder import Run
from tests.conftest import write_movielens
from tests.names import HANG_SECONDS
from workflows.cluster import dask_cluster
from workflows.features.prepare import PrepareSettings, prepare
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables

pytestmark = pytest.mark.slow
DASK = Path(sys.executable).with_name("dask")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


class Cluster:
    """`dask scheduler` and one `dask worker`, started in a folder with none of Marquee's code."""

    def __init__(self, folder: Path):
        self.folder = folder
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = {**environment, "PYTHONWARNINGS": "ignore"}
        address = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                    "--scheduler-file", address)  # fmt: skip
        until(lambda: address.is_file() and address.stat().st_size, "the scheduler")
        with Client(scheduler_file=str(address), timeout=HANG_SECONDS) as client:
            self.address = client.scheduler.address
            self.worker = self.start("worker", self.address, "--nthreads", "1", "--no-dashboard")
            client.wait_for_workers(1, timeout=HANG_SECONDS)

    def start(self, *arguments: object) -> subprocess.Popen:
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [str(DASK), *map(str, arguments)], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    @staticmethod
    def kill(process: subprocess.Popen) -> None:
        """Kills a process and those that it started, at once."""
        if process.poll() is None:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for one in family:
                if one.is_running():
                    os.kill(one.pid, signal.SIGKILL)
            psutil.wait_procs(family, timeout=HANG_SECONDS)
        process.wait(HANG_SECONDS)


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    found = Cluster(folder)
    yield found
    Cluster.kill(found.worker)
    Cluster.kill(found.scheduler)


def one_line(error: UserError) -> str:
    assert "\n" not in str(error)
    return str(error)


def refusal_when_killed(cluster: Cluster, process: subprocess.Popen) -> str:
    """What is said when a process of the cluster is killed while its result is waited for."""

    def work() -> None:
        with dask_cluster(cluster.address) as client:
            waiting = client.submit(time.sleep, HANG_SECONDS)
            Cluster.kill(process)
            waiting.result()

    with pytest.raises(UserError) as caught:
        work()
    return one_line(caught.value)


def test_a_cluster_started_outside_of_the_checkout_prepares(cluster, tmp_path, capfd):
    raw = write_movielens(tmp_path / "raw")
    run = Run(tmp_path / "ml-latest-small")
    fetch_tables(get_dataset("ml-latest-small"), raw, run.tables, lambda _: None)
    assert prepare(run, "random-split", PrepareSettings(), lambda *_: None, dask_cluster(cluster.address))
    assert list((run.features / "random-split" / "train").glob("part_*.parquet"))
    assert capfd.readouterr().err == ""


def test_a_scheduler_that_dies_is_said_in_one_line(cluster, capfd):
    message = refusal_when_killed(cluster, cluster.scheduler)
    assert f"the Dask scheduler at {cluster.address} ended" in message
    assert capfd.readouterr().err == ""


def test_without_workers_it_warns_and_gives_up(cluster, capfd, monkeypatch):
    monkeypatch.setattr("workflows.cluster.WARN_SECONDS", 1)
    monkeypatch.setattr("workflows.cluster.WORKERLESS_SECONDS", 4)
    message = refusal_when_killed(cluster, cluster.worker)
    assert f"no Dask worker was there for 4 s; start some with: dask worker {cluster.address}" in message
    assert capfd.readouterr().err == "warning: the Dask cluster has no workers left; waiting 4 s for another\n"


def test_a_file_that_a_worker_does_not_find_is_named(cluster, tmp_path):
    here = tmp_path / "there.parquet"
    here.write_bytes(b"")

    def not_on_this_machine(path):
        raise FileNotFoundError(2, "No such file or directory", path)

    with pytest.raises(UserError) as caught, dask_cluster(cluster.address) as client:
        client.submit(not_on_this_machine, str(here)).result()
    assert f"a Dask worker does not find {here}; workers must see the same files" in one_line(caught.value)


def test_an_error_of_ones_own_stays_what_it_is(cluster):
    with pytest.raises(FileNotFoundError, match="nowhere"), dask_cluster(cluster.address):
        Path("/nowhere/at/all").read_bytes()
    with pytest.raises(RuntimeError, match="my own"), dask_cluster(cluster.address):
        raise RuntimeError("my own")
