"""docker/serving.Dockerfile: its lock holds what serving imports, in the versions of the tests, and no training."""

import re

import pytest

from tests.deploy.files import ROOT, given, locked, options_of, run_with, without_hash

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "serving.Dockerfile").read_text(encoding="utf-8")
TRAINING = {"torch", "tensorflow-cpu", "nvtabular", "merlin-core", "merlin-models", "dask", "pandas", "scikit-learn"}
# Imports all that these commands import, now or when they are called.
IMPORT_IT_ALL = """
import pathlib
for name in ("marquee.app", "marquee.answers", "marquee.health", "marquee.serving", "marquee.tables",
             "ensemble.client.probe", "ensemble.client", "onnxruntime", "pyarrow.parquet"):
    importlib.import_module(name)
for room in ("server", "repository", "front_door", "triton_models"):
    for file in sorted(pathlib.Path("ensemble", room).glob("*.py")):
        inside_triton = "triton_python_backend_utils" in file.read_text() or file.stem in ("model", "__main__")
        if not inside_triton:
            importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
"""


def test_its_lock_is_a_part_of_the_projects():
    whole, part = locked("requirements.txt"), locked("docker/serving.lock")
    assert not part.keys() & TRAINING
    for name, ones in part.items():
        assert {str(one.specifier) for one in ones} <= {str(one.specifier) for one in whole[name]}, name


def test_every_package_of_its_lock_has_a_hash():
    assert without_hash("docker/serving.lock") == []


def test_its_lock_holds_all_that_serving_imports():
    packages = set(locked("docker/serving.lock"))
    done = run_with(packages, IMPORT_IT_ALL)
    assert done.returncode == 0, done.stderr
    done = run_with(packages - {"prometheus-client"}, IMPORT_IT_ALL)
    assert "ModuleNotFoundError: prometheus_client is not in the lock" in done.stderr


@pytest.mark.parametrize("package", ["core", "marquee", "workflows", "models", "ensemble"])
def test_the_image_gets_each_package_and_docker_may_read_it(package):
    assert f"COPY {package} {package}\n" in DOCKERFILE
    assert f"!{package}\n" in (DOCKER / "serving.Dockerfile.dockerignore").read_text()


def test_it_runs_marquee_as_an_unprivileged_user():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert re.search(r'^HEALTHCHECK .*CMD \["python", "-m", "marquee", "health"\]$', DOCKERFILE, re.MULTILINE)
    command = re.findall(r'"([^"]*)"', DOCKERFILE.rpartition("\nCMD ")[2])
    assert command[0] == "serve"
    assert given(command) <= options_of("serve")
    assert "/exported/repository" in command  # by its name in what is mounted: a new version takes it
