"""A server that is killed or hung is repaired, on the real Triton."""

import os
import signal
import socket
import time

import psutil
import pytest

from core.errors import UserError
from ensemble import client
from ensemble.client import TimedOutError
from ensemble.server import health
from ensemble.server.keeper import RESTARTS_IN_A_ROW
from ensemble.server.ports import Ports, free_port
from ensemble.server.supervisor import supervised
from tests.ensemble.server.conftest import OPEN, PATIENCE, running_models, shared, stubs, until


@pytest.mark.slow
def test_its_answers_are_right_from_the_start(supervisor, asked):
    assert asked.is_right(supervisor.ports.url)
    supervisor.step()
    assert supervisor.events == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["scorer", "recommend"])
def test_a_killed_stub_is_replaced(supervisor, asked, model):
    (stub,) = stubs(supervisor, model)
    server = supervisor.server
    stub.kill()
    reported = until(supervisor, f"{model}: its Python process died; reloaded")
    assert "\n" not in reported
    assert 0 < supervisor.events[-1].seconds < PATIENCE
    assert asked.is_right(supervisor.ports.url)
    assert supervisor.server is server
    (new,) = stubs(supervisor, model)
    assert new.pid != stub.pid
    assert shared(supervisor) == len(running_models(supervisor))


@pytest.mark.slow
def test_a_hung_stub_is_ended_and_replaced(supervisor, asked):
    (stub,) = stubs(supervisor, "scorer")
    stub.suspend()
    until(supervisor, "scorer: .*; reloaded")
    assert asked.is_right(supervisor.ports.url)
    assert stub.pid not in [one.pid for one in stubs(supervisor, "scorer")]


@pytest.mark.slow
def test_all_stubs_killed_at_once_are_replaced(supervisor, asked):
    server = supervisor.server
    killed = [stub for model in supervisor.release.models for stub in stubs(supervisor, model)]
    assert len(killed) > 1
    for stub in killed:
        stub.kill()
    before, deadline = len(supervisor.events), time.monotonic() + PATIENCE
    while len(supervisor.events) < before + len(killed) and time.monotonic() < deadline:
        supervisor.step()
    assert all("its Python process died; reloaded" in event.what for event in supervisor.events[before:])
    assert asked.is_right(supervisor.ports.url)
    assert supervisor.server is server


@pytest.mark.slow
def test_a_killed_server_is_started_again(supervisor, asked):
    killed = supervisor.server.process
    children = psutil.Process(killed.pid).children(recursive=True)
    os.kill(killed.pid, signal.SIGKILL)
    until(supervisor, "started again, and answers")
    assert "ended by itself (exit code -9)" in supervisor.events[-2].what
    assert asked.is_right(supervisor.ports.url)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_hung_server_is_started_again(supervisor, asked, monkeypatch):
    monkeypatch.setattr(health, "CANARY_SECONDS", 1.0)
    os.kill(supervisor.server.process.pid, signal.SIGSTOP)
    until(supervisor, "started again, and answers")
    assert health.SILENT in supervisor.events[-2].what
    assert asked.is_right(supervisor.ports.url)


@pytest.mark.slow
def test_a_busy_server_is_left_alone(supervisor, asked, monkeypatch):
    def slow(*_: object) -> None:
        raise TimedOutError("too slow")

    before, ask = len(supervisor.events), supervisor.canary.ask
    with monkeypatch.context() as patched:
        patched.setattr(supervisor.canary, "ask", slow)
        for _ in range(2 * health.MISSES_IN_A_ROW):
            for model in supervisor.release.models:
                if not supervisor.canary.is_private(model):
                    ask(supervisor.ports.url, OPEN, model, client.TIMEOUT)  # another client is answered
            supervisor.step()
    supervisor.step()
    assert len(supervisor.events) == before


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


def test_a_taken_port_is_refused(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(UserError, match="cannot be used"),
            supervised(exported.repository, tmp_path / "triton.log", Ports(taken.getsockname()[1])),
        ):
            pytest.fail("it was started")
