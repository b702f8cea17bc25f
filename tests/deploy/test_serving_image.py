"""docker/serving.Dockerfile: its lock holds what serving imports, in the versions of the tests, and no training."""

import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import ROOT, given, options_of
from tests.names import HANG_SECONDS

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "serving.Dockerfile").read_text(encoding="utf-8")
TRAINING = {"torch", "tensorflow-cpu", "nvtabular", "merlin-core", "merlin-models", "dask", "pandas", "scikit-learn"}
# Imports all that these commands import, now or when they are called. What the lock lacks cannot be imported.
IMPORT_IT_ALL = """
import importlib, importlib.metadata, pathlib, sys
locked = set(sys.argv[1:])

class Lacking:
    of = importlib.metadata.packages_distributions()

    def find_spec(self, name, path=None, target=None):
        packages = {package.lower().replace("_", "-").replace(".", "-") for package in self.of.get(name, ())}
        if packages and not packages & locked:
            raise ModuleNotFoundError(f"{name} is not in the lock", name=name)

sys.meta_path.insert(0, Lacking())
for name in ("marquee.app", "marquee.answers", "marquee.health", "marquee.serving", "marquee.tables",
             "ensemble.client.probe", "ensemble.client", "onnxruntime", "pyarrow.parquet"):
    importlib.import_module(name)
for room in ("server", "repository", "front_door", "triton_models"):
    for file in sorted(pathlib.Path("ensemble", room).glob("*.py")):
        inside_triton = "triton_python_backend_utils" in file.read_text() or file.stem in ("model", "__main__")
        if not inside_triton:
            importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
"""


def locked(file: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            one = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def test_its_lock_is_a_part_of_the_projects():
    whole, part = locked("requirements.txt"), locked("docker/serving.lock")
    assert not part.keys() & TRAINING
    for name, ones in part.items():
        assert {str(one.specifier) for one in ones} <= {str(one.specifier) for one in whole[name]}, name


def test_every_package_of_its_lock_has_a_hash():
    entries = re.split(r"\n(?=\S)", (DOCKER / "serving.lock").read_text(encoding="utf-8"))
    for entry in entries:
        assert entry.startswith("#") or "--hash=sha256:" in entry, entry.partition(" ")[0]


def test_its_lock_holds_all_that_serving_imports():
    command = [sys.executable, "-c", IMPORT_IT_ALL]
    done = subprocess.run(
        [*command, *locked("docker/serving.lock")], cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    less = locked("docker/serving.lock").keys() - {"prometheus-client"}
    done = subprocess.run([*command, *less], cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
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
