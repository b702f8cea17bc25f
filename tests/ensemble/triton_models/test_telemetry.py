"""ONNX Runtime keeps a database of its use in the home folder and sends it: not where Marquee runs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ensemble.triton_models.conftest import folder_of
from tests.names import HANG_SECONDS
from tests.test_layout import INSIDE_TRITON, LAYERS, ROOT, imports, sources

SCORE = "from {package}.scores import Scores; Scores(__import__('pathlib').Path({folder!r}))"


def written_at_home(code: str, search: Path, home: Path) -> list[str]:
    """What a new process leaves in an empty home folder."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_", "PYTHON"))}
    variables = {**kept, "HOME": str(home), "PYTHONPATH": str(search), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=home.parent, env=variables, check=True, timeout=HANG_SECONDS)
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


@pytest.fixture
def scorer(exported, tmp_path) -> Path:
    """A copy of the version folder of `scorer`, as Triton loads it."""
    return Path(shutil.copytree(folder_of(exported, "scorer"), tmp_path / "scorer"))


def test_the_code_that_runs_in_triton_writes_nothing_into_the_home_folder(scorer, tmp_path):
    code = SCORE.format(package="marquee_serving", folder=str(scorer))
    assert written_at_home(code, scorer, tmp_path / "home") == []


def test_our_own_processes_write_nothing_into_the_home_folder(scorer, tmp_path):
    code = SCORE.format(package="ensemble.triton_models", folder=str(scorer))
    assert written_at_home(code, ROOT, tmp_path / "home") == []


def test_no_other_package_imports_onnxruntime():
    """Where it could be imported before its telemetry is turned off."""
    importing = [file for layer in LAYERS for file in sources(layer) if "onnxruntime" in "".join(imports(file))]
    assert importing
    assert all(file.is_relative_to(ROOT / INSIDE_TRITON) for file in importing)
