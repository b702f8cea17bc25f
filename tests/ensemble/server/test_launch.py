"""What a Triton from the wheel needs of this Python, asked before anything else is done."""

import os
from types import SimpleNamespace

import pytest

from core.errors import UserError
from core.run_folder import Run
from ensemble.server import launch
from marquee.pipeline import run_everything

SHARED = r"^Triton's Python backend needs libpython3\.1[01]\.so\.1\.0, .* apt install libpython3\.1[01]\)"


@pytest.fixture
def _without_a_server_on_path(monkeypatch):
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)


@pytest.fixture
def _without_libpython(monkeypatch, _without_a_server_on_path, tmp_path):
    """A Python as Debian's is without the package libpython3.11."""
    monkeypatch.setattr(launch, "sysconfig", SimpleNamespace(get_config_var=lambda name: str(tmp_path)))
    monkeypatch.setattr(launch, "find_library", lambda name: None)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)


@pytest.mark.usefixtures("_without_a_server_on_path")
def test_this_python_can_run_models():
    launch.require_triton()


@pytest.mark.usefixtures("_without_libpython")
def test_a_python_without_a_shared_library_is_told_what_to_install(tmp_path):
    with pytest.raises(UserError, match=SHARED):
        launch.require_triton()
    with pytest.raises(UserError, match=SHARED):
        launch.prepare_wheel_server(tmp_path / "backends", dict(os.environ))
    assert not (tmp_path / "backends").exists()


@pytest.mark.usefixtures("_without_libpython")
def test_a_library_beside_those_that_are_looked_for_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "find_library", lambda name: f"lib{name}.so.1.0")
    launch.require_triton()


@pytest.mark.usefixtures("_without_libpython")
def test_run_says_so_before_it_fetches_or_trains(tmp_path):
    with pytest.raises(UserError, match=SHARED):
        run_everything(Run(tmp_path / "ml-100k"), SimpleNamespace())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_without_a_server_on_path")
def test_without_the_wheel_it_says_what_to_run(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"no nvidia-pytriton wheel; run make venv"):
        launch.require_triton()
