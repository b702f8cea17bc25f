"""What a command's process imports."""

import shutil
import subprocess
import sys

import pytest

from tests.names import HANG_SECONDS
from tests.test_layout import ROOT

COMMAND = """
import runpy, sys
try:
    runpy.run_module("marquee", run_name="__main__")
finally:
    loaded = {name.partition(".")[0] for name, module in list(sys.modules.items()) if module is not None}
    print(*sorted(loaded & {"merlin", "tensorflow", "torch"}), file=sys.stderr)
"""


@pytest.mark.slow
def test_training_imports_merlin_and_does_without_tensorflow(prepared, tmp_path):
    run = tmp_path / "runs" / prepared.root.name
    shutil.copytree(prepared.root, run)
    arguments = ["train", "--dataset", run.name, "--runs", run.parent, "--protocol", "leave-one-out", "--model", "mf"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments), "--epochs", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["merlin torch"]
