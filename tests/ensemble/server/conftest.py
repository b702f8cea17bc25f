"""A supervised server, and what its answers must be."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.artifacts import read_manifest
from core.json_files import read_json
from ensemble import client
from ensemble.client import Access
from ensemble.server.ports import Ports, free_port
from ensemble.server.shared_memory import SHARED_MEMORY
from ensemble.server.supervisor import Supervisor, supervised
from tests.names import HANG_SECONDS

PATIENCE = HANG_SECONDS
OPEN = Access()


class Asked:
    """A repository's sample, and whether a server's answers agree with it."""

    def __init__(self, repository: Path, version: int = 1):
        self.sample = read_json(repository / "score" / str(version) / "sample.json")
        self.model = next(iter(self.sample["scores"]))

    def scores(self, url: str, access: Access = OPEN) -> np.ndarray:
        return client.score(url, self.sample["user_id"], self.sample["movie_id"], self.model, access=access)[0]

    def expected(self) -> np.ndarray:
        return np.array(self.sample["scores"][self.model])

    def is_right(self, url: str) -> bool:
        return near(self.scores(url), self.expected())


def near(answer: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.abs(answer - right).max() < 1e-5)


def until(supervisor: Supervisor, words: str) -> str:
    """Takes steps until the supervisor has reported something with these words, and returns it."""
    before, deadline = len(supervisor.events), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        supervisor.step()
        for event in supervisor.events[before:]:
            if re.search(words, event.what):
                return event.what
        time.sleep(0.2)
    raise AssertionError(f"never reported {words!r}, but {[event.what for event in supervisor.events[before:]]}")


@pytest.fixture
def repository(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported.repository, tmp_path / "repository"))


@pytest.fixture(scope="module")
def asked(exported) -> Asked:
    return Asked(exported.repository, read_manifest(exported.repository)["version"])


@pytest.fixture(scope="module")
def supervisor(exported, tmp_path_factory):
    """One supervisor for the tests of faults; each leaves it with a server that answers."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    reported: list[str] = []
    prefixes = set()
    with supervised(exported.repository, log, Ports(free_port()), report=reported.append) as supervisor:
        prefixes.add(supervisor.server.shared)
        assert shared(supervisor) == len(running_models(supervisor))
        yield supervisor
        prefixes.add(supervisor.server.shared)
        assert reported == [event.what for event in supervisor.events]
    assert not [path for prefix in prefixes for path in SHARED_MEMORY.glob(f"{prefix}*")]


def shared(supervisor: Supervisor) -> int:
    """How many stubs' shared memory there is."""
    return len(list(SHARED_MEMORY.glob(f"{supervisor.server.shared}*")))


def running_models(supervisor: Supervisor) -> list[str]:
    return [model for model in supervisor.release.models if stubs(supervisor, model)]


def stubs(supervisor: Supervisor, model: str) -> list[psutil.Process]:
    assert supervisor.server is not None
    return supervisor.server.stubs(model)
