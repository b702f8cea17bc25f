"""The set-up script refuses what cannot work, in one line, before it touches anything."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def set_up(python, tmp_path, path="/usr/bin:/bin"):
    command = ["/bin/bash", str(ROOT / "tools" / "setup.sh"), python, str(tmp_path / "venv")]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": path})


def test_an_unsuitable_interpreter_is_refused_in_one_line(tmp_path):
    result = set_up(str(tmp_path / "python9"), tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "PYTHON=" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all_names_what_to_install(tmp_path):
    result = set_up("", tmp_path, path=str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Python 3.11" in result.stderr
    assert "install" in result.stderr
    assert not (tmp_path / "venv").exists()
