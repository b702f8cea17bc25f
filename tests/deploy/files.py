"""What the tests of `deploy/` share: the files, read, and the programs that check them."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
ALERTS = DEPLOY / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana.json"
ADAPTER = KUBERNETES / "prometheus" / "adapter.yaml"


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
