"""The checks of a machine with a GPU: without one they are made on the CPU, which shows that they work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--device", "cpu", "--samples", "320", "--batch-size", "32")


def checked(out: Path, run: Path, *names: str) -> tuple[int, str, dict]:
    command = [sys.executable, ROOT / "bench" / "gpu_check.py", *SMALL, "--run", run, "--out", out, "--only", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    return done.returncode, done.stderr, json.loads(out.read_text())["checks"]


@pytest.mark.slow
def test_what_was_measured_is_written_with_its_share_of_the_memory_s_speed(prepared, tmp_path):
    names = ("machine", "rowwise", "speed-dlrm-float32")
    code, errors, found = checked(tmp_path / "found.json", prepared.root, *names)
    assert code == 0, errors
    assert list(found) == list(names)
    assert found["rowwise"]["difference"] == 0
    speed, copied = found["speed-dlrm-float32"], found["machine"]["copy_bytes_per_second"]
    moved = 5 * speed["embedding_bytes_per_sample"] * speed["samples_per_second"]
    assert speed["embedding_bytes_per_sample"] > 0
    assert speed["share_of_memory_bandwidth"] == pytest.approx(moved / copied)


@pytest.mark.slow
def test_a_check_that_fails_is_kept_with_its_reason(tmp_path):
    code, errors, found = checked(tmp_path / "found.json", tmp_path / "no-run", "speed-ncf-float32")
    assert code == 1
    assert found["speed-ncf-float32"]["ok"] is False
    assert str(tmp_path / "no-run") in found["speed-ncf-float32"]["why"]
    assert errors.splitlines()[-1].startswith("this should not be: speed-ncf-float32: ")
