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
from ensemble.server.ports import Ports, free_port
from ensemble.server.supervisor import RESTARTS_IN_A_ROW, supervised
from tests.ensemble.server.conftest import OPEN, PATIENCE, running_models, shared, stubs, until


@pytest.mark.slow
def test_its_answers_are_right_from_the_start(kept, asked):
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


def test_a_taken_port_is_refused(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(UserError, match="cannot be used"),
            supervised(exported.repository, tmp_path / "triton.log", Ports(taken.getsockname()[1])),
        ):
            pytest.fail("it was started")
