"""The command `serve` with a repository alone: copied elsewhere, read-only, without a home folder."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from core.artifacts import verify
from ensemble import client
from tests.marquee.test_cli import SMALL, refusal_here
from tests.marquee.test_stopping import Command, started
from tests.names import HANG_SECONDS

ANSWERS = re.compile(r"Triton answers at (\S+) \(gRPC\)")


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    """A copy of the repository, whose files and folders cannot be written."""
    repository = Path(shutil.copytree(exported.repository, tmp_path / "elsewhere" / "repository"))
    for path in (repository.parent, *repository.parent.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield repository
    for path in (repository.parent, *repository.parent.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def url_of(command: Command) -> str:
    command.wait_for(lambda: "Ctrl-C stops it" in command.log.read_text())
    return ANSWERS.search(command.log.read_text())[1]


@pytest.mark.slow
def test_a_copied_repository_is_served_alone(copied, tmp_path, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    before = listing(copied.parent)
    work, log = tmp_path / "work", tmp_path / "log.txt"
    work.mkdir()
    arguments = ("--repository", copied, "--port", 0, "--host", "::1", "--work-dir", work, "--log", log)
    with started(tmp_path, "serve", *arguments) as command:
        url = url_of(command)
        assert re.fullmatch(r"\[::1\]:[1-9]\d+", url)
        question = re.search(r"recommend --user (\d+) --url '(\S+)' --repository (\S+)", command.log.read_text())
        assert question.groups()[1:] == (url, str(copied))
        assert len(client.recommend(url, int(question[1]), 3)[0]) == 3
        assert len(list(work.glob("marquee-triton-*"))) == 1
        assert command.left_over() == []  # in the system's temporary folder
        command.process.send_signal(signal.SIGTERM)
        assert command.ends() == 128 + signal.SIGTERM
        assert command.log.read_text().splitlines()[-1] == "stopped"
    assert list(work.iterdir()) == []
    assert log.read_text().strip()
    assert listing(copied.parent) == before
    verify(copied)


@pytest.mark.slow
def test_a_killed_serve_leaves_neither_process_nor_folder(copied, tmp_path):
    with started(tmp_path, "serve", "--repository", copied, "--port", 0) as command:
        url_of(command)
        assert command.left_over()
        command.process.kill()
        command.ends()
        deadline = time.monotonic() + HANG_SECONDS
        while command.left_over():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_makes_no_sense_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("MARQUEE_RUNS", raising=False)
    for arguments, words in (
        (("--repository", tmp_path, *SMALL), "leave --dataset and --runs out"),
        (("--repository", tmp_path, "--runs", tmp_path), "leave --dataset and --runs out"),
        (("--repository", tmp_path / "none"), "none is missing or incomplete"),
        (("--repository", tmp_path, "--runtime", "merlin"), "no other server option"),
        (("--runtime", "merlin", "--workers", 2), "no other server option"),
        (("--workers", 0), "--workers"),
        (("--repository", tmp_path, "--work-dir", tmp_path / "none"), "none is not a folder; create it first"),
        (("--least-serial", 3), "give --verify-key too"),
    ):
        assert words in refusal_here(capsys, "serve", *arguments)
    assert os.listdir(tmp_path) == []
