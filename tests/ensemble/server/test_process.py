"""How a real Triton is started and stopped, and what is refused before it starts."""

import re
import shutil
import socket
import time
from pathlib import Path

import psutil
import pytest

from core.artifacts import seal, verify
from core.errors import UserError
from core.json_files import read_json, write_json
from ensemble import client
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from tests.names import HANG_SECONDS

pytestmark = pytest.mark.slow

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def triton_processes() -> set[int]:
    """Everything that this process started and that still runs."""
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    }


# -- the process -------------------------------------------------------------------------------------------------------


def test_nothing_listens_but_on_loopback(server):
    process = psutil.Process(server.process.pid)
    listening = [
        connection.laddr
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == {int(server.url.rpartition(":")[2])}
    assert {address.ip for address in listening} <= set(LOOPBACK)


def test_serving_does_not_change_the_repository(exported, server):
    client.score(server.url, [1], [10])
    verify(exported.repository)


def test_stopping_leaves_no_process_and_no_folder(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = triton_processes()
    with running(exported.repository, tmp_path / "triton.log", Ports(free_port())) as own:
        started = triton_processes() - before
        assert own.process.pid in started
        assert len(started) > 1  # the server and its stubs
        assert list(tmp_path.glob("marquee-triton-*"))
        assert client.score(own.url, [1], [10])[0].shape == (1,)
    assert own.process.poll() is not None
    deadline = time.monotonic() + HANG_SECONDS
    while (left := [pid for pid in started if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert triton_processes() == before
    assert not list(tmp_path.glob("marquee-triton-*"))
    with pytest.raises(UserError, match="no Triton answers"):
        client.score(own.url, [1], [10])


def test_an_error_in_the_block_stops_the_server_too(exported, tmp_path):
    before = triton_processes()
    with pytest.raises(KeyError), running(exported.repository, tmp_path / "triton.log", Ports(free_port())):
        raise KeyError
    assert triton_processes() == before


def test_a_server_that_ended_is_noticed(exported, tmp_path):
    with running(exported.repository, tmp_path / "triton.log", Ports(free_port())) as own:
        own.check()
        own.process.terminate()
        own.process.wait(HANG_SECONDS)
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "triton.log"))):
            own.check()


# -- what is refused before anything starts ----------------------------------------------------------------------------


def refusal(repository: Path, log: Path, ports: Ports) -> str:
    """The one line that says why no server was started."""
    before = triton_processes()
    with pytest.raises(UserError) as refused, running(repository, log, ports):
        pytest.fail("a server was started")
    assert triton_processes() == before
    assert not log.exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_port_in_use_is_refused(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(exported.repository, tmp_path / "triton.log", Ports(port))


@pytest.mark.parametrize(
    "name",
    [
        "scorer/1/model.py",
        "recommend/1/marquee_serving/recommendations.py",
        "scorer/1/ncf.onnx",
        "recommend/config.pbtxt",
    ],
)
def test_a_changed_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).write_bytes((repository / name).read_bytes() + b"\n")
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "changed" in message


@pytest.mark.parametrize("name", ["score/1/extra.py", "evil/1/model.py", "score/2/model.py", "score/1/.hidden"])
def test_an_extra_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("print('hello')\n")
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "not listed" in message


@pytest.mark.parametrize("name", ["scorer/1/dlrm.onnx", "recommend/1/rated.npy", "score/config.pbtxt"])
def test_a_missing_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).unlink()
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "missing" in message


def test_a_serving_config_that_is_wrong_fails_the_load_by_file_and_key(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("ensemble.server.process.START_SECONDS", 8)
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    config = repository / "recommend" / "1" / "serving.json"
    write_json(config, {**read_json(config), "candidates": "many"})
    seal(repository, "wrong", version=1, previous=None)
    before = triton_processes()
    with (
        pytest.raises(
            UserError, match=r"recommend/1/serving\.json: candidates is .*many.*; input should be a valid integer"
        ),
        running(repository, tmp_path / "triton.log", Ports(free_port())),
    ):
        pytest.fail("it was served")
    assert triton_processes() == before


def test_a_repository_without_manifest_is_refused(exported, tmp_path):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / "manifest.json").unlink()
    assert str(repository) in refusal(repository, tmp_path / "triton.log", Ports(free_port()))


def test_a_log_that_cannot_be_written_is_refused(exported, tmp_path):
    before = triton_processes()
    with (
        pytest.raises((UserError, OSError)),
        running(exported.repository, tmp_path / "no folder" / "triton.log", Ports(free_port())),
    ):
        pytest.fail("a server was started")
    assert triton_processes() == before


def test_without_a_server_the_client_says_how_to_start_one():
    for ask in (
        lambda url: client.score(url, [1], [10]),
        lambda url: client.recommend(url, 1),
        lambda url: client.similar(url, 10),
    ):
        with pytest.raises(UserError, match="python -m marquee serve") as refused:
            ask(f"127.0.0.1:{free_port()}")
        assert "\n" not in str(refused.value)
