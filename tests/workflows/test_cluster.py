"""NVTabular's work on a Dask cluster: the same files, a worker lost or not; and addresses that lead nowhere."""

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from merlin.core.utils import global_dask_client

from core.artifacts import verify
from core.errors import UserError
from core.run_folder import Run
from tests.conftest import write_movielens
from tests.names import HANG_SECONDS
from workflows.cluster import LOCAL, dask_cluster
from workflows.features.prepare import PREPARE_STEPS, PrepareSettings, prepare
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables

PROTOCOL = "leave-one-out"


def quiet(*_) -> None:
    pass


def local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """The tables of about 4500 ratings."""
    folder = tmp_path_factory.mktemp("cluster")
    raw = write_movielens(folder / "raw", users=150, seed=4)
    fetch_tables(get_dataset("ml-latest-small"), raw, folder / "tables", quiet)
    return folder / "tables"


def run_over(tables: Path, folder: Path) -> Run:
    run = Run(folder / "ml-latest-small")
    run.root.mkdir(parents=True)
    run.tables.symlink_to(tables)
    return run


def data_in(run: Run) -> dict[str, bytes]:
    """All that holds data: not the fitted workflows and the schemas, which contain where they were written."""
    folder = run.features / PROTOCOL
    found = [*folder.rglob("*.parquet"), *folder.rglob("_metadata"), folder / "features.json"]
    names = {path.relative_to(folder).as_posix(): path for path in sorted(found)}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("workflow/")}


@pytest.fixture(scope="module")
def many_partitions() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflows.features.interactions.ROWS_AT_ONCE", 50)
        yield


@pytest.fixture(scope="module")
def alone(tables, tmp_path_factory, many_partitions) -> dict[str, bytes]:
    """What a prepare in this process alone writes."""
    run = run_over(tables, tmp_path_factory.mktemp("alone"))
    prepare(run, PROTOCOL, PrepareSettings(), quiet)
    found = data_in(run)
    kinds = {name.split("/")[0] for name in found}
    assert {"train", "valid", "test", "side", "vocabulary", "candidates-valid.parquet"} < kinds
    assert sum(name.startswith("train/part_") for name in found) > 40
    return found


class Killer(threading.Thread):
    """Kills a worker as soon as a few files of the training part are there."""

    def __init__(self, features: Path, pid: int):
        super().__init__(daemon=True)
        self.features, self.pid, self.files = features, pid, -1

    def run(self) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline:
            files = len(list(self.features.glob(f".{PROTOCOL}.partial-*/train/part_*.parquet")))
            if files >= 3:
                os.kill(self.pid, signal.SIGKILL)
                self.files = files
                return
            time.sleep(0.002)


def given_out(cluster: LocalCluster) -> Counter[str]:
    """How often each file was given to a worker to be written."""
    log = cluster.scheduler.transition_log
    return Counter(one.key for one in log if "write-processed" in one.key and one.finish == "processing")


@pytest.mark.slow
@pytest.mark.usefixtures("many_partitions")
def test_a_worker_that_is_killed_half_way_changes_nothing(tables, tmp_path, alone):
    run = run_over(tables, tmp_path / "cluster")
    with local_cluster(2) as cluster:
        pids = {worker.pid for worker in cluster.workers.values()}
        assert len(pids) == 2
        assert os.getpid() not in pids
        killer = Killer(run.features, min(pids))

        def advance(_by: float, name: str) -> None:
            if name == "vocabularies":
                killer.start()

        assert prepare(run, PROTOCOL, PrepareSettings(), advance, dask_cluster(cluster.scheduler_address))
        killer.join()
        given = given_out(cluster)
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=HANG_SECONDS)  # its nanny has started another
            left = set(client.run(os.getpid).values())
        assert min(pids) not in left
        assert max(pids) in left
    assert 3 <= killer.files < sum(name.startswith("train/part_") for name in alone)
    assert sum("part_" in key for key in given) == sum("/part_" in name for name in alone)
    assert max(given.values()) > 1  # what the lost worker had in hand
    found = data_in(run)
    assert found.keys() == alone.keys()
    assert [name for name in found if found[name] != alone[name]] == []
    verify(run.features / PROTOCOL)
    assert [path.name for path in run.features.iterdir()] == [PROTOCOL]


@pytest.mark.slow
@pytest.mark.usefixtures("many_partitions")
def test_a_cluster_started_here_writes_the_same(tables, tmp_path, alone, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    run = run_over(tables, tmp_path / "local")
    reported: list[tuple[float, str]] = []
    seen: list[int] = []

    def advance(by: float, name: str) -> None:
        reported.append((by, name))
        if name == "vocabularies":
            seen.append(len(global_dask_client().scheduler_info()["workers"]))

    assert prepare(run, PROTOCOL, PrepareSettings(), advance, dask_cluster(LOCAL))
    assert seen == [2]
    assert [name for _, name in reported if name] == list(PREPARE_STEPS)
    found = data_in(run)
    assert found.keys() == alone.keys()
    assert [name for name in found if found[name] != alone[name]] == []


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr("workflows.cluster.CONNECT_SECONDS", 1)


def refusal(scheduler: str) -> str:
    with pytest.raises(UserError) as caught, dask_cluster(scheduler):
        pass
    message = str(caught.value)
    assert scheduler in message
    assert "\n" not in message
    return message


@pytest.fixture(autouse=True)
def no_client_is_left() -> Iterator[None]:
    """A client that could not connect must not be taken for the one to work on."""
    yield
    left = global_dask_client()
    if left is not None:
        left.close(timeout=1)  # or every later test would work on it
    assert left is None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_nobody_at_the_address(scheme):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # Bound and not listening, so that no other process takes it.
        message = refusal(f"{scheme}127.0.0.1:{probe.getsockname()[1]}")
    assert "no Dask scheduler answers" in message
    assert "tcp://host:port" in message


@pytest.mark.usefixtures("impatient")
def test_somebody_else_at_the_address():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "no Dask scheduler answers" in refusal(f"tcp://127.0.0.1:{other.getsockname()[1]}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "tcp://",
        "127.0.0.1:port",
        "http://127.0.0.1:8786",
        "::1:8786",
        "ucx://127.0.0.1:8786",
        "tls://127.0.0.1:8786",
    ],
)
def test_an_address_that_is_none(address):
    assert "tcp://host:port" in refusal(address)


def test_a_scheduler_without_workers():
    with local_cluster(0) as cluster:
        message = refusal(cluster.scheduler_address)
    assert "no workers" in message
    assert "dask worker" in message


@pytest.mark.usefixtures("impatient")
def test_a_wrong_address_leaves_no_features(tables, tmp_path):
    run = run_over(tables, tmp_path)
    with pytest.raises(UserError, match="tcp://host:port"):
        prepare(run, PROTOCOL, PrepareSettings(), quiet, dask_cluster("nonsense"))
    assert not run.features.exists()
