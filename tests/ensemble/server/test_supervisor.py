"""A server that is killed, hung, switched to other releases and guarded, on the real Triton."""

import datetime
import ipaddress
import os
import re
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import tritonclient.grpc as grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient.utils import InferenceServerException

from core.artifacts import read_manifest, seal
from core.errors import UserError
from core.json_files import read_json, write_json
from ensemble import client
from ensemble.client import Access, NoServerError, TimedOutError
from ensemble.repository.releases import Release
from ensemble.server import health
from ensemble.server.access import ServerAccess
from ensemble.server.backoff import Backoff
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import SHARED_MEMORY, running
from ensemble.server.supervisor import RESTARTS_IN_A_ROW, Supervisor, supervised

PATIENCE = 90  # seconds that a test waits for what takes a few
OPEN = Access()


# -- the backoff -------------------------------------------------------------------------------------------------------


def test_the_wait_doubles_up_to_a_minute():
    backoff = Backoff()
    assert [backoff.failed() for _ in range(10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.unanswered == 10


def test_an_answer_ends_the_row_and_a_healthy_minute_the_backoff():
    backoff = Backoff()
    for _ in range(4):
        backoff.failed()
    backoff.healthy(100.0)
    assert backoff.unanswered == 0
    backoff.healthy(159.9)
    assert backoff.failed() == 8
    backoff.healthy(200.0)
    backoff.healthy(259.9)
    backoff.healthy(260.0)
    assert backoff.failed() == 0


def test_health_before_a_failure_does_not_count_after_it():
    backoff = Backoff()
    backoff.healthy(0.0)
    backoff.failed()
    backoff.failed()
    backoff.healthy(59.0)
    backoff.healthy(61.0)
    assert backoff.failed() == 2


# -- faults ------------------------------------------------------------------------------------------------------------


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
def kept(exported, tmp_path_factory):
    """One supervisor for the tests of faults; each leaves it with a server that answers."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    reported: list[str] = []
    prefixes = set()
    with supervised(exported.repository, log, Ports(free_port()), report=reported.append) as kept:
        prefixes.add(kept.server.shared)
        assert shared(kept) == len(running_models(kept))
        yield kept
        prefixes.add(kept.server.shared)
        assert reported == [event.what for event in kept.events]
    assert not [path for prefix in prefixes for path in SHARED_MEMORY.glob(f"{prefix}*")]


def shared(supervisor: Supervisor) -> int:
    """How many stubs' shared memory there is."""
    return len(list(SHARED_MEMORY.glob(f"{supervisor.server.shared}*")))


def running_models(supervisor: Supervisor) -> list[str]:
    return [model for model in supervisor.release.models if stubs(supervisor, model)]


def stubs(supervisor: Supervisor, model: str) -> list[psutil.Process]:
    assert supervisor.server is not None
    return supervisor.server.stubs(model)


@pytest.mark.slow
def test_it_answers_rightly_from_the_start(kept, asked):
    assert asked.is_right(kept.ports.url)
    kept.step()
    assert kept.events == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["scorer", "recommend"])
def test_a_killed_stub_is_replaced(kept, asked, model):
    (stub,) = stubs(kept, model)
    server = kept.server
    stub.kill()
    reported = until(kept, f"{model}: its Python process died; reloaded")
    assert "\n" not in reported
    assert 0 < kept.events[-1].seconds < PATIENCE
    assert asked.is_right(kept.ports.url)
    assert kept.server is server
    (new,) = stubs(kept, model)
    assert new.pid != stub.pid
    assert shared(kept) == len(running_models(kept))


@pytest.mark.slow
def test_a_hung_stub_is_ended_and_replaced(kept, asked):
    (stub,) = stubs(kept, "scorer")
    stub.suspend()
    until(kept, "scorer: .*; reloaded")
    assert asked.is_right(kept.ports.url)
    assert stub.pid not in [one.pid for one in stubs(kept, "scorer")]


@pytest.mark.slow
def test_all_stubs_killed_at_once_are_replaced(kept, asked):
    server = kept.server
    killed = [stub for model in kept.release.models for stub in stubs(kept, model)]
    assert len(killed) > 1
    for stub in killed:
        stub.kill()
    before, deadline = len(kept.events), time.monotonic() + PATIENCE
    while len(kept.events) < before + len(killed) and time.monotonic() < deadline:
        kept.step()
    assert all("its Python process died; reloaded" in event.what for event in kept.events[before:])
    assert asked.is_right(kept.ports.url)
    assert kept.server is server


@pytest.mark.slow
def test_a_killed_server_is_started_again(kept, asked):
    killed = kept.server.process
    children = psutil.Process(killed.pid).children(recursive=True)
    os.kill(killed.pid, signal.SIGKILL)
    until(kept, "started again, and answers")
    assert "ended by itself (exit code -9)" in kept.events[-2].what
    assert asked.is_right(kept.ports.url)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_hung_server_is_started_again(kept, asked, monkeypatch):
    monkeypatch.setattr(health, "CANARY_SECONDS", 1.0)
    os.kill(kept.server.process.pid, signal.SIGSTOP)
    until(kept, "started again, and answers")
    assert health.SILENT in kept.events[-2].what
    assert asked.is_right(kept.ports.url)


@pytest.mark.slow
def test_a_busy_server_is_left_alone(kept, asked, monkeypatch):
    def slow(*_: object) -> None:
        raise TimedOutError("too slow")

    before, ask = len(kept.events), kept.canary.ask
    with monkeypatch.context() as patched:
        patched.setattr(kept.canary, "ask", slow)
        for _ in range(2 * health.MISSES_IN_A_ROW):
            for model in kept.release.models:
                ask(kept.ports.url, OPEN, model, client.TIMEOUT)  # another client is answered
            kept.step()
    kept.step()
    assert len(kept.events) == before


@pytest.mark.slow
def test_it_gives_up_loudly(exported, tmp_path, monkeypatch):
    log = tmp_path / "triton.log"
    with supervised(exported.repository, log, Ports(free_port()), report=lambda _: None) as given_up:
        fake = tmp_path / "bin" / "tritonserver"
        fake.parent.mkdir()
        fake.write_text("#!/bin/sh\necho 'E0101 the disk is on fire'\nexit 3\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
        given_up.backoff.longest = 0.0
        os.kill(given_up.server.process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="the disk is on fire") as error:
            until(given_up, "this is never reported")
        assert f"{RESTARTS_IN_A_ROW} times" in str(error.value)
        assert str(log) in str(error.value)
        assert "\n" not in str(error.value)


# -- releases ----------------------------------------------------------------------------------------------------------


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
            time.sleep(1)
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


# -- who may ask -------------------------------------------------------------------------------------------------------


class Authority:
    """Makes certificates, for a test."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._write(name, self.key, self.name, x509.BasicConstraints(True, None))[0]

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        extension = x509.SubjectAlternativeName(names) if names else x509.BasicConstraints(False, None)
        return self._write(name, ec.generate_private_key(ec.SECP256R1()), subject, extension)

    def _write(self, name, key, subject, extension) -> tuple[Path, Path]:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder(
            self.name, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(hours=1),
            now + datetime.timedelta(days=1),
        ).add_extension(extension, critical=False).sign(self.key, hashes.SHA256())  # fmt: skip
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def server_files(authority) -> tuple[Path, Path]:
    return authority.issue(
        "server", x509.DNSName("triton.example.org"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )


@pytest.fixture(scope="module")
def guarded(exported, authority, server_files, tmp_path_factory):
    """A server with mutual TLS and a secret."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    access = ServerAccess("a=b:c,d", *server_files, authority.certificate)
    with supervised(exported.repository, log, Ports(free_port()), access, report=lambda _: None) as guarded:
        yield guarded


@pytest.mark.slow
def test_a_client_with_certificate_and_secret_is_answered(guarded, asked, authority):
    ca, certificate, key = authority.certificate, *authority.issue("client")
    for access in (
        Access("a=b:c,d", ca, certificate=certificate, key=key),
        Access("a=b:c,d", ca, certificate=certificate, key=key, server_name="triton.example.org"),
    ):
        np.testing.assert_allclose(asked.scores(guarded.ports.url, access), asked.expected(), atol=1e-5)
    guarded.step()
    assert guarded.events == []


@pytest.mark.slow
def test_any_other_client_is_refused_in_one_line(guarded, asked, authority, tmp_path):
    ca, certificate, key = authority.certificate, *authority.issue("another-client")
    other = Authority(tmp_path, "other")
    stranger = other.issue("stranger")
    url = guarded.ports.url
    for access, error, words in (
        (Access("", ca, certificate=certificate, key=key), UserError, "was started with a secret"),
        (Access("wrong", ca, certificate=certificate, key=key), UserError, "a different secret"),
        (Access("a=b:c,d", other.certificate, certificate=certificate, key=key), NoServerError, "not issued by"),
        (
            Access("a=b:c,d", ca, certificate=certificate, key=key, server_name="elsewhere.org"),
            NoServerError,
            "under that name",
        ),
        (Access("a=b:c,d", ca), NoServerError, "certificate"),
        (Access("a=b:c,d", ca, certificate=stranger[0], key=stranger[1]), NoServerError, "certificate"),
        (Access("a=b:c,d"), NoServerError, "TLS"),
    ):
        for ask in (asked.scores, lambda url, access: client.recommend(url, 1, access=access)):
            with pytest.raises(error, match=words) as refused:
                ask(url, access)
            assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_secret_is_not_in_the_command_line(guarded):
    assert guarded.server.hidden
    arguments = psutil.Process(guarded.server.process.pid).cmdline()
    assert any("marquee-secret=" in argument for argument in arguments)
    assert not any("a=b:c,d" in argument for argument in arguments)


@pytest.mark.slow
def test_no_client_controls_the_server(exported, tmp_path):
    ports = Ports(free_port(), free_port())
    with running(exported.repository, tmp_path / "triton.log", ports, ServerAccess("open sesame".replace(" ", "-"))):
        header = Access("open-sesame").headers
        with grpc.InferenceServerClient(ports.url) as triton:
            for forbidden in (
                lambda: triton.load_model("score", headers=header),
                lambda: triton.unload_model("score", headers=header),
                lambda: triton.get_model_repository_index(headers=header),
                lambda: triton.register_system_shared_memory("here", "/here", 8, headers=header),
                lambda: triton.update_trace_settings(settings={"trace_level": ["TENSORS"]}, headers=header),
                lambda: triton.update_log_settings({"log_verbose_level": 9}, headers=header),
            ):
                with pytest.raises(InferenceServerException, match="restricted"):
                    forbidden()
            assert triton.is_server_ready()  # without the secret, for load balancers

        def ask(path: str, body: bytes | None = None, **headers: str) -> int:
            request = urllib.request.Request(f"http://127.0.0.1:{ports.http}/v2/{path}", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return int(reply.status)
            except urllib.error.HTTPError as error:
                return error.code

        for path in (
            "repository/index", "repository/models/score/load", "repository/models/score/unload",
            "systemsharedmemory/region/here/register", "trace/setting", "logging",
        ):  # fmt: skip
            assert ask(path, b"{}", **{"marquee-secret": "open-sesame"}) == 403
        question = (
            b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1]},'
            b' {"name": "movie_id", "datatype": "INT64", "shape": [1], "data": [10]}]}'
        )
        assert ask("models/score/infer", question) == 403
        assert ask("models/score/infer", question, **{"marquee-secret": "wrong"}) == 403
        assert ask("models/score/infer", question, **{"marquee-secret": "open-sesame"}) == 200
        assert ask("health/ready") == 200
        assert client.score(ports.url, [1], [10], access=Access("open-sesame"))[0].shape == (1,)


def test_a_secret_that_no_header_can_carry_is_refused():
    for secret in ("two words", "ümlaut", "line\n"):
        for refused in (Access(secret).connect, lambda _, secret=secret: ServerAccess(secret).own()):
            with pytest.raises(UserError, match="no space"):
                refused("127.0.0.1:1")


def test_certificates_that_cannot_be_used_are_refused_before_anything_starts(authority, server_files, tmp_path):
    certificate, key = server_files
    nameless, other = authority.issue("nameless"), authority.issue("other", x509.DNSName("other.org"))
    stranger = Authority(tmp_path, "stranger").certificate
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    for access, words in (
        (ServerAccess("", certificate), "needs its key"),
        (ServerAccess("", None, key), "needs its key"),
        (ServerAccess("", None, None, stranger), "only with TLS"),
        (ServerAccess("", tmp_path / "none.pem", key), "cannot read .*none.pem"),
        (ServerAccess("", text, key), "not a certificate and its key"),
        (ServerAccess("", certificate, other[1]), "key values mismatch"),
        (ServerAccess("", certificate, key, text), "does not hold a certificate"),
        (ServerAccess("", *nameless), "no subjectAltName"),
        (ServerAccess("", certificate, key, stranger), "cannot be used"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            access.own()
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="HTTP has no TLS"):
        ServerAccess("", certificate, key).flags(http=True)


def test_a_certificate_for_any_name_or_for_an_address_is_asked_by_one(authority):
    for name, shown in (
        (x509.DNSName("*.example.org"), "any.example.org"),
        (x509.IPAddress(ipaddress.ip_address("10.0.0.1")), "10.0.0.1"),
    ):
        own = ServerAccess("", *authority.issue("named", name)).own()
        assert own.server_name == shown
        assert own.certificate is None


def test_a_client_with_half_of_its_files_is_refused(authority, tmp_path):
    ca, certificate, key = authority.certificate, *authority.issue("halved")
    for access, words in (
        (Access("", ca, certificate=certificate), "needs its key"),
        (Access("", None, certificate=certificate, key=key), "root certificate too"),
        (Access("", tmp_path / "none.pem"), "cannot read .*none.pem"),
    ):
        with pytest.raises(UserError, match=words):
            client.score("127.0.0.1:1", [1], [10], access=access)


@pytest.mark.slow
def test_a_server_without_tls_is_recognised(kept, asked, authority):
    with pytest.raises(NoServerError, match="does not speak TLS"):
        asked.scores(kept.ports.url, Access("", authority.certificate))


def test_a_taken_port_is_refused(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(UserError, match="cannot be used"),
            supervised(exported.repository, tmp_path / "triton.log", Ports(taken.getsockname()[1])),
        ):
            pytest.fail("it was started")
