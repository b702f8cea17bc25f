"""tools/debian.sh: it says in one line what it cannot do, and never fails a build."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT
from tests.names import HANG_SECONDS

NEEDED = ("bash", "realpath", "dirname", "grep", "id", "mktemp", "rm", "mv", "timeout")


@pytest.fixture
def programs(tmp_path) -> Path:
    """A folder for PATH with what the script needs and a chromium, and neither promtool nor apt-get."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    put(folder, "chromium", "")
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def lack_chromium(programs: Path, user_id: int) -> None:
    """Everything else is there; the user is root where the id is 0."""
    (programs / "chromium").unlink()
    put(programs, "promtool", "")
    (programs / "id").unlink()
    put(programs, "id", f"echo {user_id}")


def debian(programs: Path, venv: Path) -> str:
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [ROOT / "tools" / "debian.sh", venv],
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in venv.iterdir()] == ["bin"]
    return done.stdout


def test_what_is_there_is_not_fetched(programs, tmp_path):
    put(programs, "promtool", "")
    put(programs, "apt-get", "exit 1")
    assert debian(programs, tmp_path / "venv") == ""


def test_without_apt_it_says_so(programs, tmp_path):
    assert debian(programs, tmp_path / "venv") == (
        "promtool is not here and there is no apt-get: the tests that need it are skipped\n"
    )


def test_where_apt_cannot_help_it_says_why(programs, tmp_path):
    put(programs, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    put(programs, "dpkg-deb", "exit 1")
    assert debian(programs, tmp_path / "venv") == (
        "promtool cannot be had from Debian's package prometheus (E: Unable to locate package): "
        "the tests that need it are skipped\n"
    )


def test_the_program_is_taken_out_of_its_package(programs, tmp_path):
    put(programs, "apt-get", 'case "$*" in *download*) : > prometheus.deb;; esac')
    put(programs, "dpkg-deb", "PATH=/usr/bin:/bin; mkdir -p usr/bin && echo taken > usr/bin/promtool")
    venv = tmp_path / "venv"
    assert debian(programs, venv) == f"promtool: taken from Debian's package prometheus into {venv}/bin\n"
    assert (venv / "bin" / "promtool").read_text() == "taken\n"


def test_a_program_of_many_files_is_installed(programs, tmp_path):
    lack_chromium(programs, user_id=0)
    put(programs, "apt-get", f'echo "$*" >> {tmp_path}/asked; echo noise')
    put(programs, "dpkg-deb", "")
    assert debian(programs, tmp_path / "venv") == "chromium: Debian's package chromium is installed\n"
    assert (tmp_path / "asked").read_text().splitlines()[-1].endswith("install --yes --no-install-recommends chromium")


def test_only_root_installs(programs, tmp_path):
    lack_chromium(programs, user_id=1000)
    put(programs, "apt-get", f"echo asked > {tmp_path}/asked")
    put(programs, "dpkg-deb", "")
    assert debian(programs, tmp_path / "venv") == (
        "chromium cannot be had from Debian's package chromium (only root may install it): "
        "the tests that need it are skipped\n"
    )
    assert not (tmp_path / "asked").exists()
