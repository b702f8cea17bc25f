"""Servers' logs are kept, bounded, and written by one server each."""

import os

import pytest

from core.errors import UserError
from ensemble.server import logs
from ensemble.server.logs import KEPT, claimed, last_error, rotate, trim


def test_the_last_logs_are_kept(tmp_path):
    log = tmp_path / "triton.log"
    for number in range(KEPT + 3):
        log.write_text(f"start {number}\n")
        rotate(log)
        assert log.read_text() == ""
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["triton.log", *(f"triton.log.{number}" for number in range(1, KEPT + 1))]
    assert (tmp_path / "triton.log.1").read_text() == f"start {KEPT + 2}\n"
    assert (tmp_path / f"triton.log.{KEPT}").read_text() == "start 3\n"


def test_an_empty_log_pushes_no_other_out(tmp_path):
    log = tmp_path / "triton.log"
    log.write_text("crashed\n")
    for _ in range(3 * KEPT):
        rotate(log)
    assert (tmp_path / "triton.log.1").read_text() == "crashed\n"


def test_a_log_is_bounded_while_a_server_appends_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LARGEST", 100)
    log = tmp_path / "triton.log"
    with open(log, "ab", buffering=0) as server:
        server.write(b"a" * 90)
        trim(log)
        assert log.stat().st_size == 90
        server.write(b"b" * 90)
        trim(log)
        server.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "triton.log.1").read_bytes() == b"a" * 10 + b"b" * 90


def test_two_servers_never_write_to_one_log(tmp_path):
    log = tmp_path / "triton.log"
    with claimed(log) as first, claimed(log) as second, claimed(log) as third:
        assert [first.name, second.name, third.name] == ["triton.log", "triton-2.log", "triton-3.log"]
    with claimed(log) as again:
        assert again == log
    assert os.listdir(tmp_path) == []


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    with (
        pytest.raises(UserError, match=r"none/triton\.log cannot be written.*--log"),
        claimed(tmp_path / "none" / "triton.log"),
    ):
        pytest.fail("it was claimed")


def test_a_folder_that_vanishes_meanwhile_is_no_error_at_the_end(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with claimed(folder / "triton.log"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_the_cause_is_found_or_it_is_said_why_not(tmp_path):
    log = tmp_path / "triton.log"
    assert "cannot be read" in last_error(log)
    log.write_text("")
    assert last_error(log) == "its log is empty"
    log.write_text("old error\nError: old\n")
    start = log.stat().st_size
    with open(log, "a") as file:
        file.write("I fine\n")
    assert last_error(log, start) == "I fine"
    with open(log, "a") as file:
        file.write("E0101 bad\nE0102 failed to load 'scorer': no\nE0103 unable to get CUDA\n")
    assert last_error(log) == "E0102 failed to load 'scorer': no"
