"""What happens to the files of a server does not end it, and clients do not notice: on the real Triton."""

import errno
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.artifacts import read_manifest, seal
from ensemble import client
from ensemble.server import rollout
from ensemble.server.ports import Ports
from ensemble.server.supervisor import Supervisor, supervised
from tests.ensemble.server.conftest import Asked, stubs, until
from tests.ensemble.server.test_rollout import release
from tests.names import HANG_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(repository, tmp_path):
    """A supervised server of a run folder of its own, and its lines."""
    run = tmp_path / "run"
    run.mkdir()
    with supervised(repository, run / "triton.log", Ports(0), report=lambda _: None) as supervisor:
        yield supervisor


def answered(supervisor: Supervisor, asked: Asked, words: str) -> str:
    """What is reported with these words, while a client waits for an answer, which is right."""
    user, movie = asked.sample["user_id"], asked.sample["movie_id"]
    tensors = [client.tensor("user_id", user, "int64"), client.tensor("movie_id", movie, "int64")]
    tensors.append(client.tensor("model", [asked.model], "object"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.infer, supervisor.ports.url, "score", tensors, timeout=float(HANG_SECONDS))
        line = until(supervisor, words)
        assert abs(waiting.result().as_numpy("score") - asked.expected()).max() < 1e-5
    return line


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_files_that_vanish_are_made_again(kept, repository, asked, monkeypatch):
    """The temporary folder is emptied, and a Python process dies; then all is gone for a while."""
    door, (stub,) = kept.door.pids(), stubs(kept, "scorer")
    empty(kept.workspace.folder)
    stub.kill()
    answered(kept, asked, "Triton was started again")
    lines = [event.what for event in kept.events]
    assert any("the copy that was served was lost; version 1 was copied again" in line for line in lines)
    until(kept, "the front door was started again") if kept.door.pids() == door else None
    assert asked.is_right(kept.ports.url)
    # The repository is gone too, for a while.
    hidden = repository.rename(repository.with_name("hidden"))
    kept.backoff.longest = 0.1
    empty(kept.workspace.folder)
    until(kept, "is missing or incomplete.*it is started again")
    for _ in range(20):
        kept.step()
    hidden.rename(repository)
    answered(kept, asked, "Triton was started again")


def test_a_full_disk_is_waited_for(kept, asked, monkeypatch):
    tries = []

    def full(release):
        tries.append(release)
        if len(tries) < 12:  # more often than a server may fail to answer
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "served")
        lay_out(release)

    lay_out = kept.workspace.lay_out
    monkeypatch.setattr(kept.workspace, "lay_out", full)
    kept.backoff.longest = 0.05
    os.kill(kept.server.process.pid, signal.SIGKILL)
    answered(kept, asked, "Triton was started again")
    assert any("no space left on device; it is started again" in event.what for event in kept.events)


def test_the_run_folder_may_go_and_logs_are_kept_until_then(kept, repository, asked):
    log = kept.log
    os.kill(kept.server.process.pid, signal.SIGKILL)
    answered(kept, asked, "Triton was started again")
    assert (log.parent / "triton.log.1").read_text().strip()
    shutil.rmtree(log.parent)
    shutil.rmtree(repository)
    os.kill(kept.server.process.pid, signal.SIGKILL)
    answered(kept, asked, "Triton was started again")
    assert kept.server.log.read_text().strip()
    kept.door.places[0].worker.process.kill()
    until(kept, "the front door was started again")
    assert asked.is_right(kept.ports.url)


def test_a_release_whose_files_come_late_is_rehearsed_again(kept, repository, monkeypatch):
    monkeypatch.setattr(rollout, "FIRST_WAIT", 0.2)
    new = Asked(repository)
    release(repository, 2, 0.5)
    late = repository / "scorer" / "2" / "model.py"
    hidden = late.rename(repository.parent / "model.py")
    assert "model.py is listed in manifest.json and missing" in until(kept, "version 1 stays in service")
    lines = len(kept.events)
    for _ in range(10):
        kept.step()
    assert len(kept.events) == lines  # the same again is not reported again
    hidden.rename(late)
    until(kept, "version 2 is served")
    assert abs(new.scores(kept.ports.url) - 0.5 * new.expected()).max() < 1e-5
    assert read_manifest(repository)["version"] == 2
    seal(repository, "the same again", version=2, previous=1)
    for _ in range(10):
        kept.step()
    assert kept.release.version == 2
