"""A server is switched to new releases under load, on the real Triton."""

import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import tritonclient.grpc as grpc

from core.artifacts import read_manifest, seal
from core.errors import UserError
from core.json_files import read_json, write_json
from ensemble import client
from ensemble.repository.releases import Release
from ensemble.server.ports import Ports, free_port
from ensemble.server.supervisor import supervised
from tests.ensemble.server.conftest import PATIENCE, Asked, near, until


def release(
    repository: Path, version: int, factor: float = 1.0, change: Callable[[Path], None] = lambda _: None
) -> None:
    """Adds a version to a repository, whose networks score `factor` times as much, and lets it serve."""
    former = read_manifest(repository)["version"]
    for config in sorted(repository.glob("*/config.pbtxt")):
        new = config.parent / str(version)
        shutil.copytree(config.parent / str(former), new)
        name_version(config, version)
        if (new / "config.pbtxt").exists():
            name_version(new / "config.pbtxt", version)
        for path in [*new.glob("dlrm.onnx"), *new.glob("ncf.onnx")]:
            scale(path, factor)
    sample_file = repository / "score" / str(version) / "sample.json"
    sample = read_json(sample_file)
    sample["scores"] = {name: (factor * np.array(scores)).tolist() for name, scores in sample["scores"].items()}
    for row in sample["recommend"]:
        row["score"] = (factor * np.array(row["score"])).tolist()
    write_json(sample_file, sample)
    change(repository)
    seal(repository, f"release {version}", version=version, previous=former)


def name_version(config: Path, version: int) -> None:
    text, found = re.subn(r"versions: \[ *\d+ *\]", f"versions: [ {version} ]", config.read_text())
    assert found == 1
    config.write_text(text)


def scale(path: Path, factor: float) -> None:
    """Multiplies what a network gives."""
    network = onnx.load(path)
    (output,) = network.graph.output
    before, by = (f"{name}_{len(network.graph.node)}" for name in ("before", "by"))
    for node in network.graph.node:
        node.output[:] = [before if name == output.name else name for name in node.output]
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(factor, np.float32), by))
    network.graph.node.append(onnx.helper.make_node("Mul", [before, by], [output.name]))
    onnx.save(network, path)


def roll_back(repository: Path) -> None:
    """Lets the version before serve again."""
    manifest = read_manifest(repository)
    version, former = manifest["previous"], manifest["version"]
    for config in repository.glob("*/config.pbtxt"):
        name_version(config, version)
    seal(repository, "rolled back", version=version, previous=former)


class Load:
    """Clients that ask all the time; what they were given."""

    def __init__(self, url: str, asked: Asked):
        self.url, self.asked = url, asked
        self.answers: list[tuple[float, np.ndarray]] = []
        self.errors: list[str] = []
        self.unready = 0
        self.stop = threading.Event()
        self.clients = ThreadPoolExecutor(5)

    def __enter__(self) -> "Load":
        for _ in range(4):
            self.clients.submit(self._ask)
        self.clients.submit(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.clients.shutdown()

    def wait_for_answers(self, after: float, count: int) -> None:
        """Waits until so many requests that were made after a moment of `time.monotonic` have been answered."""
        deadline = time.monotonic() + PATIENCE
        while sum(at > after for at, _ in self.answers) < count and not self.errors:
            assert time.monotonic() < deadline, "the answers did not come"
            time.sleep(0.05)

    def _ask(self) -> None:
        user = self.asked.sample["recommend"][0]["user_id"]
        while not self.stop.is_set():
            try:
                asked_at = time.monotonic()
                self.answers.append((asked_at, self.asked.scores(self.url)))
                client.recommend(self.url, user, 3)
                time.sleep(0.01)  # leaves the others some of the processors
            except Exception as error:
                self.errors.append(repr(error))

    def _look(self) -> None:
        with grpc.InferenceServerClient(self.url) as triton:
            while not self.stop.wait(0.05):
                self.unready += not triton.is_server_ready()


@pytest.mark.slow
def test_releases_are_followed_under_load(repository, tmp_path):
    """To a new one, not to a wrong one, not to one that was tampered with, and back."""
    asked = Asked(repository)
    old, new = asked.expected(), 0.5 * asked.expected()
    reported: list[str] = []
    log = tmp_path / "triton.log"
    with supervised(repository, log, Ports(free_port()), report=reported.append) as following:
        url, server = following.ports.url, following.server
        with Load(url, asked) as load:
            following.step()
            np.testing.assert_allclose(asked.scores(url), old, atol=1e-5)
            release(repository, 2, 0.5)
            until(following, "version 2 is served")
            switched = time.monotonic()
            np.testing.assert_allclose(asked.scores(url), new, atol=1e-5)
            assert following.release.version == 2
            load.wait_for_answers(after=switched, count=20)
        assert load.errors == []
        assert load.unready == 0
        assert len(load.answers) > 20
        for at, answer in load.answers:
            assert near(answer, new) or (near(answer, old) and at < switched)
        assert near(load.answers[0][1], old)
        assert near(load.answers[-1][1], new)

        def lie(folder: Path) -> None:
            sample = read_json(folder / "score" / "3" / "sample.json")
            sample["scores"]["ncf"][7] += 1e-3
            write_json(folder / "score" / "3" / "sample.json", sample)

        release(repository, 3, change=lie)
        assert "ncf scores up to" in until(following, "version 2 stays in service")
        for _ in range(5):
            following.step()
        assert following.rehearsals.current is None  # not tried again
        (repository / "recommend" / "2" / "model.py").write_text("raise SystemExit\n")
        roll_back_to = read_manifest(repository) | {"version": 2}
        write_json(repository / "manifest.json", roll_back_to)
        assert "model.py has changed" in until(following, "version 2 stays in service")
        np.testing.assert_allclose(asked.scores(url), new, atol=1e-5)
        assert following.server is server
        assert all("\n" not in line for line in reported)


@pytest.mark.slow
def test_a_rollback_is_followed_under_load(repository, tmp_path):
    asked = Asked(repository)
    old, new = asked.expected(), 0.5 * asked.expected()
    release(repository, 2, 0.5)
    with supervised(repository, tmp_path / "triton.log", Ports(free_port()), report=lambda _: None) as following:
        url, server = following.ports.url, following.server
        np.testing.assert_allclose(asked.scores(url), new, atol=1e-5)
        with Load(url, asked) as load:
            roll_back(repository)
            until(following, "version 1 is served")
            np.testing.assert_allclose(asked.scores(url), old, atol=1e-5)
        assert load.errors == []
        assert all(near(answer, old) or near(answer, new) for _, answer in load.answers)
        assert following.server is server


@pytest.mark.slow
def test_a_release_that_does_not_load_where_it_did_in_rehearsal_is_taken_back(repository, tmp_path, monkeypatch):
    asked = Asked(repository)
    with supervised(repository, tmp_path / "triton.log", Ports(free_port()), report=lambda _: None) as following:
        url, served = following.ports.url, str(following.served.resolve())
        trap = f"if {served!r} in __file__:\n    raise OSError('no room')\n"

        def set_trap(folder: Path) -> None:
            model = folder / "recommend" / "2" / "model.py"
            model.write_text(trap + model.read_text())

        switch = following._switch

        def soon_impatient(rehearsed: Release) -> None:
            monkeypatch.setattr("ensemble.server.process.START_SECONDS", 4)
            switch(rehearsed)

        monkeypatch.setattr(following, "_switch", soon_impatient)
        release(repository, 2, 0.5, set_trap)
        until(following, "version 1 stays in service")
        for _ in range(3):
            following.step()
        assert asked.is_right(url)
        client.recommend(url, following.canary.ids["user_id"], 3)
        assert following.release.version == 1


@pytest.mark.slow
def test_another_release_of_the_same_number_is_served(repository, tmp_path):
    asked = Asked(repository)
    with supervised(repository, tmp_path / "triton.log", Ports(free_port()), report=lambda _: None) as following:
        release(repository, 2, 0.5)
        for config in repository.glob("*/config.pbtxt"):
            shutil.rmtree(config.parent / "1")
            (config.parent / "2").rename(config.parent / "1")
            name_version(config, 1)
        seal(repository, "the other first", version=1, previous=None)
        until(following, "started again, and answers")
        np.testing.assert_allclose(asked.scores(following.ports.url), 0.5 * asked.expected(), atol=1e-5)


@pytest.mark.slow
def test_a_repository_whose_answers_are_wrong_is_not_served_at_all(repository, tmp_path):
    sample = read_json(repository / "score" / "1" / "sample.json")
    sample["recommend"][0]["movie_id"].reverse()
    write_json(repository / "score" / "1" / "sample.json", sample)
    seal(repository, "wrong", version=1, previous=None)
    before = psutil.Process().children()
    with (
        pytest.raises(UserError, match="other movies than the trained network"),
        supervised(repository, tmp_path / "triton.log", Ports(free_port())),
    ):
        pytest.fail("it was served")
    assert psutil.Process().children() == before


@pytest.mark.slow
def test_leaving_during_a_rehearsal_leaves_nothing(repository, tmp_path):
    before = psutil.Process().children()
    with supervised(repository, tmp_path / "triton.log", Ports(free_port()), report=lambda _: None) as following:
        release(repository, 2, 0.5)
        following.step()
        deadline = time.monotonic() + PATIENCE
        while len(psutil.Process().children()) < len(before) + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert psutil.Process().children() == before
