"""Temporary folders: removed at the end, and by the next process where theirs was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.temporary import temporary_folder

CHECKOUT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from core.temporary import temporary_folder
with temporary_folder(sys.argv[1]) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("content")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def start(prefix: str) -> tuple[subprocess.Popen, Path]:
    """Another process that holds a folder until it reads a line."""
    command = [sys.executable, "-c", HOLD, prefix]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate(timeout=60)


def test_a_folder_is_empty_private_and_removed_at_the_end(tmp_path):
    with temporary_folder("marquee-test-") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("marquee-test-")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not list(folder.iterdir())
        (folder / "file").write_text("content")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_removed_after_a_failure(tmp_path):
    with pytest.raises(ValueError, match="why"), temporary_folder("marquee-test-"):
        raise ValueError("why")
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_killed_process_is_cleared_by_the_next(tmp_path):
    process, left_over = start("marquee-test-")
    kill(process)
    assert (left_over / "inner" / "file").is_file()
    with temporary_folder("marquee-test-") as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_held_folder_stays(tmp_path):
    process, other = start("marquee-test-")
    try:
        with temporary_folder("marquee-test-") as folder:
            assert (other / "inner" / "file").read_text() == "content"
            assert folder != other
        assert (other / "inner" / "file").read_text() == "content"
    finally:
        process.communicate("\n", timeout=60)
    assert not list(tmp_path.iterdir())


def test_a_second_folder_of_the_same_process_leaves_the_first():
    with temporary_folder("marquee-test-") as first, temporary_folder("marquee-test-") as second:
        assert first.is_dir()
        assert second.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "marquee-test-12345678",  # as another version or program makes them
        "marquee-test-triton-12345678.held",  # of another prefix that begins alike
        "other-12345678.held",
        "marquee-test-1234.held",
    ],
)
def test_what_was_made_otherwise_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    with temporary_folder("marquee-test-"):
        pass
    assert (tmp_path / name).is_dir()


def test_a_link_and_a_file_of_such_a_name_stay(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("content")
    (tmp_path / "marquee-test-12345678.held").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "marquee-test-abcdefgh.held").write_text("content")
    with temporary_folder("marquee-test-"):
        pass
    assert (tmp_path / "elsewhere" / "precious").is_file()
    assert (tmp_path / "marquee-test-abcdefgh.held").is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_stays(tmp_path):
    other = tmp_path / "marquee-test-12345678.held"
    other.mkdir()
    os.chown(other, 12345, 12345)
    with temporary_folder("marquee-test-"):
        pass
    assert other.is_dir()
