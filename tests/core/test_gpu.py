"""Where the driver counts a device and there is no cuDF, everything works as on a machine without a GPU."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.names import HANG_SECONDS
from tests.test_layout import LAYERS, ROOT, imports, sources

without_cudf = pytest.mark.skipif(importlib.util.find_spec("cudf") is not None, reason="cuDF is installed")
COUNTED = "import tests.core.counted_driver\n"


def run_python(code: str) -> str:
    """What a new process prints on a machine whose driver counts a device."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED + code], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_patch_is_what_merlin_asks():
    assert run_python("from merlin.core.has_gpu import HAS_GPU; print(HAS_GPU)") == "True"


@without_cudf
@pytest.mark.parametrize("first", ["", "import nvtabular, merlin.io;"])
def test_a_driver_without_cudf_is_no_gpu_for_merlin_whichever_is_imported_first(first):
    code = """
import sys, workflows.features.interactions, core.gpu
found = {name for name, one in list(sys.modules.items()) if name.startswith(("merlin", "nvtabular")) and getattr(one, "HAS_GPU", 0)}
print(core.gpu.HAS_CUDF, core.gpu.DATA_FRAMES, sorted(found))
"""  # noqa: E501
    assert run_python(first + code) == "False pandas, on the CPU []"


@without_cudf
def test_processes_that_are_started_from_here_count_no_device_either():
    """They import Merlin and nothing of ours: Dask's workers, Merlin's own runtime in Triton."""
    code = "import core.gpu, os; print(os.environ[core.gpu.COUNT_DEVICES])"
    assert run_python(code) == "False"


@without_cudf
@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    ["workflows.features.saved", "models.data", "models.networks", "ensemble.merlin_systems", "workflows.cluster"],
)
def test_merlin_takes_the_cpus_tensorflow(package):
    code = f"import {package}\nfrom merlin.core.compat.tensorflow import tensorflow\nprint(tensorflow is not None)"
    assert run_python(code) == "True"


def test_every_package_that_imports_merlin_decides_first():
    packages = (
        *(f"workflows/features/{name}.py" for name in ("saved", "schema", "interactions", "side_tables", "vocabulary")),
        "models/data",
        "models/networks",
        "models/tensorflow/twins",
        "models/tensorflow/blocks.py",
        "ensemble/merlin_systems",
        "workflows/cluster.py",
        *(f"report/notebooks/{name}.py" for name in ("graphs", "loaders", "operators")),
    )
    for layer in LAYERS:
        for file in sources(layer):
            name = file.relative_to(ROOT).as_posix()
            if "backends/" not in name and {one.split(".")[0] for one in imports(file)} & {"merlin", "nvtabular"}:
                assert name == "core/gpu.py" or name.startswith((*packages, "workflows/features/side_features")), name
    for package in packages:
        file = ROOT / package if package.endswith(".py") else ROOT / package / "__init__.py"
        assert any(one.startswith("core.gpu") for one in imports(file)), file
        assert first_of_merlin_and_gpu(file) == "core.gpu", file


def first_of_merlin_and_gpu(file: Path) -> str | None:
    """Which a file imports first, by its lines: Merlin, NVTabular or `core.gpu`; None where it imports none of them."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(nodes, key=lambda node: node.lineno):
        for name in (node.module,) if isinstance(node, ast.ImportFrom) else (one.name for one in node.names):
            if (name and name.split(".")[0] in ("merlin", "nvtabular")) or name == "core.gpu":
                return name
    return None


def test_no_other_module_asks_merlins_flag():
    for layer in LAYERS:
        for file in sources(layer):
            assert file.name == "gpu.py" or "HAS_GPU" not in file.read_text(), file


@without_cudf
def test_the_fast_tests_of_what_imports_merlin_pass_there():
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "tests.core.counted_driver", "-p", "no:cacheprovider",
            "-x", "-m", "not slow", "--ignore=tests/workflows/sources",  # readers of text, without Merlin
            "tests/workflows", "tests/models/data",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
