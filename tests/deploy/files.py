"""What the tests of `deploy/` share: the files, read, and the programs that check them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
ALERTS = DEPLOY / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana.json"
ADAPTER = KUBERNETES / "prometheus" / "adapter.yaml"
# Installed packages that are not among the arguments cannot be imported.
LACKING = """
import importlib, importlib.metadata, sys
packages = set(sys.argv[1:])

class Lacking:
    of = importlib.metadata.packages_distributions()

    def find_spec(self, name, path=None, target=None):
        found = {package.lower().replace("_", "-").replace(".", "-") for package in self.of.get(name, ())}
        if found and not found & packages:
            raise ModuleNotFoundError(f"{name} is not in the lock", name=name)

sys.meta_path.insert(0, Lacking())
"""


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def program(name: str, remedy: str) -> str:
    """A program's path: beside this Python, where `make test` puts it, or on PATH. The test is skipped without it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here; {remedy}")
    return found


def options_of(command: str) -> set[str]:
    """The options of a command of Marquee."""
    import typer.main

    from marquee.app import app

    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {option for parameter in parameters for option in parameter.opts}


def given(words: list[str]) -> set[str]:
    """The options in a command line."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def locked(file: str) -> dict[str, list[Requirement]]:
    """The packages of a lock, or of what it is compiled from, by name."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ", "-")):
            one = Requirement(line.partition(" #")[0].removesuffix("\\").strip())
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def run_with(packages: set[str], code: str) -> subprocess.CompletedProcess:
    """Runs code in this environment, of which only these packages can be imported."""
    return subprocess.run(
        [sys.executable, "-c", LACKING + code, *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def without_hash(lock: str) -> list[str]:
    """The packages of a lock that have no SHA-256."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8"))
    return [entry.partition(" ")[0] for entry in entries if not entry.startswith("#") and "--hash=sha256:" not in entry]
