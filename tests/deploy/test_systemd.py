"""systemd's unit, by systemd's own tools."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, given, options_of, program
from tests.names import HANG_SECONDS

UNIT = DEPLOY / "marquee.service"
MOST_EXPOSED = 1.5  # of 10; systemd's own measure
FROM_DEBIAN = "it is in Debian's package systemd"


class OneOfEach(configparser.RawConfigParser):
    """Keeps case; a setting that stands twice keeps its last value."""

    optionxform = staticmethod(str)  # type: ignore[assignment]


@pytest.fixture
def here(tmp_path) -> Path:
    """The unit with programs and folders of this machine, as systemd looks whether they are there."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/marquee/.venv/bin/python", sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("WorkingDirectory=/opt/marquee", "WorkingDirectory=/"))
    return copy


def test_systemd_knows_every_directive(here):
    analyze = program("systemd-analyze", FROM_DEBIAN)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_little_that_the_unit_could_do_to_the_machine(here):
    analyze = program("systemd-analyze", FROM_DEBIAN)
    command = [analyze, "security", "--offline=yes", "--no-pager", f"--threshold={10 * MOST_EXPOSED:.0f}", str(here)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def service() -> dict[str, str]:
    parser = OneOfEach(strict=False, interpolation=None)
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def test_its_commands_are_marquees():
    start = shlex.split(service()["ExecStart"])
    assert start[1:4] == ["-m", "marquee", "serve"]
    ask = service()["ExecStartPost"]
    assert "-m marquee health " in ask
    assert given(ask.split()) <= options_of("health")
    assert given(start) <= options_of("serve")


def test_it_ends_in_order_and_is_started_again():
    unit = service()
    assert unit["KillMode"] == "mixed"  # Triton is stopped by `serve`, not by systemd beside it
    assert int(unit["TimeoutStopSec"]) >= 45
    assert unit["Restart"] == "on-failure"
    assert unit["SuccessExitStatus"] == "143"
    assert unit["DynamicUser"] == "yes"
    assert unit["ProtectSystem"] == "strict"
