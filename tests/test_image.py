"""The Merlin image's versions: what docker/Dockerfile adds resolves under them, and their lock keeps to them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_layout import LAYERS

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
PINS = DOCKER / "image-23.12.txt"
OF_PYTORCH = ("torch", "pytorch-lightning", "torchmetrics")  # which the image for TensorFlow lacks
NO_ANSWER = re.compile(r"error sending request|failed to fetch|dns error|timed out|connection", re.IGNORECASE)


def requirements(file: Path) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip().removesuffix("\\").strip() for line in file.read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {requirement.name: requirement for requirement in found}


def dockerfile(*words: str) -> str:
    """The part of a RUN between two words."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    return text.partition(words[0])[2].partition(words[1])[0]


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_what_an_image_gets_resolves_under_what_it_has(tmp_path, framework):
    lacks = OF_PYTORCH if framework == "tensorflow" else ("tensorflow-cpu",)
    (tmp_path / "pins.txt").write_text(
        "\n".join(line for line in PINS.read_text().splitlines() if line.partition("==")[0] not in lacks)
    )
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not here; `make venv` installs it")
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--python-version", "3.10"]
    command += ["--python-platform", "x86_64-manylinux_2_35", "-c", "pins.txt", str(ROOT / "requirements-gpu.txt")]
    command.append(str(DOCKER / f"beside-{framework}.txt"))
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280)
    if done.returncode and NO_ANSWER.search(done.stderr):
        pytest.skip(f"no package registry answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    (tmp_path / "found.txt").write_text(done.stdout)
    found, pins = requirements(tmp_path / "found.txt"), requirements(PINS)
    assert found.keys() & pins.keys() >= {"numpy", "onnxruntime", "scikit-learn", "cryptography", "protobuf"}
    for name in found.keys() & pins.keys():
        assert pins[name].specifier.contains(str(found[name].specifier).removeprefix("==")), name
    assert (found.keys() >= set(OF_PYTORCH)) == (framework == "tensorflow")


def test_an_image_is_built_for_either_framework():
    text, readable = ((DOCKER / name).read_text() for name in ("Dockerfile", "Dockerfile.dockerignore"))
    names = {path.stem.removeprefix("beside-") for path in DOCKER.glob("beside-*.txt")}
    assert names == {"pytorch", "tensorflow"}
    assert "ARG FRAMEWORK=pytorch\nFROM nvcr.io/nvidia/merlin/merlin-${FRAMEWORK}:23.12\n" in text
    assert "COPY requirements-gpu.txt docker/beside-*.txt ./\n" in text
    assert "!docker/beside-*.txt\n" in readable


def test_the_lock_keeps_to_the_images_versions():
    locked, pins = requirements(DOCKER / "image-23.12.lock"), requirements(PINS)
    asked = requirements(ROOT / "requirements-gpu.txt") | requirements(DOCKER / "image-23.12.in")
    assert locked.keys() >= asked.keys()
    for name in locked.keys() & pins.keys():
        assert pins[name].specifier.contains(str(locked[name].specifier).removeprefix("==")), name
    assert "pyarrow==10.0.1" in map(str, locked.values())


def test_every_pin_has_its_source():
    paragraphs = PINS.read_text().split("\n\n")
    assert len(paragraphs) > 4
    for paragraph in paragraphs:
        assert paragraph.startswith("#"), paragraph


def test_a_version_with_a_local_part_is_a_constraint_too(tmp_path):
    for name, version in (
        ("torch", "2.1.0a0+4136153"),
        ("plain", "1.2"),
        ("pyarrow", "10.0.1.dev0+ga6eabc2b.d20230428"),
    ):
        folder = tmp_path / "packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "INSTALLER").write_text("pip\n")
    listing = dockerfile("RUN ", " > /tmp/image.txt")
    assert listing.startswith("python -m pip list")
    there = {**os.environ, "PYTHONPATH": str(tmp_path / "packages"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    there["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", listing], env=there, capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert {"torch==2.1.0a0+4136153", "plain==1.2", "pyarrow==10.0.1.dev0+ga6eabc2b.d20230428"} <= set(lines)
    for line in lines:
        Requirement(line)  # what pip reads as a constraint


@pytest.mark.parametrize("layer", LAYERS)
def test_the_image_gets_each_package_and_docker_may_read_it(layer):
    assert f"\nCOPY {layer} {layer}\n" in (DOCKER / "Dockerfile").read_text()
    assert f"\n!{layer}\n" in (DOCKER / "Dockerfile.dockerignore").read_text()


def test_the_container_writes_as_any_user():
    text = (DOCKER / "Dockerfile").read_text()
    assert text.count('--user "$(id -u):$(id -g)"') == text.count("docker run ")
    assert "chmod 1777 runs data /home/marquee" in text
    assert "USER 10001" in text
