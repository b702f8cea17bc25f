"""docker/page.Dockerfile: its lock holds what the page and its command import, in the versions of the tests."""

import re

import pytest

from tests.deploy.files import ROOT, given, locked, options_of, run_with, without_hash

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "page.Dockerfile").read_text(encoding="utf-8")
# All that the command imports, now or when it is called; what the page itself imports is not in this environment.
IMPORT_IT_ALL = """
for name in ("marquee.app", "marquee.dashboard", "marquee.ids", "marquee.inputs", "marquee.pipeline", "marquee.serving",
             "ensemble.arguments", "ensemble.client", "dashboard.settings"):
    importlib.import_module(name)
from models.evaluation.metrics.base import METRICS, headings_of
from models.protocols.base import PROTOCOLS
print(len(METRICS), *(headings_of(protocol.task) for _, protocol in PROTOCOLS.items()))
"""


def test_its_lock_has_the_versions_of_the_pages_tests_and_no_test_tools():
    whole, part = locked("requirements-dashboard.txt"), locked("docker/page.lock")
    assert not part.keys() & {"pytest", "playwright", "torch", "nvtabular", "nvidia-pytriton"}
    for name in part.keys() & whole.keys():
        assert {str(one.specifier) for one in part[name]} <= {str(one.specifier) for one in whole[name]}, name


def test_it_has_every_package_that_the_page_asks_for():
    tools = {"pytest", "pytest-timeout", "pytest-xdist", "playwright", "axe-playwright-python"}
    assert locked("requirements-dashboard.in").keys() - tools <= locked("docker/page.in").keys()


def test_every_package_of_its_lock_has_a_hash():
    assert without_hash("docker/page.lock") == []


def test_its_lock_holds_all_that_the_command_imports():
    packages = set(locked("docker/page.lock"))
    done = run_with(packages, IMPORT_IT_ALL)
    assert done.returncode == 0, done.stderr
    done = run_with(packages - {"cryptography"}, IMPORT_IT_ALL)
    assert "ModuleNotFoundError: cryptography is not in the lock" in done.stderr


@pytest.mark.parametrize("package", ["core", "marquee", "workflows", "models", "ensemble", "dashboard"])
def test_the_image_gets_each_package_and_docker_may_read_it(package):
    assert f"COPY {package} {package}\n" in DOCKERFILE
    assert f"!{package}\n" in (DOCKER / "page.Dockerfile.dockerignore").read_text()


def test_it_runs_the_page_as_an_unprivileged_user():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    command = re.findall(r'"([^"]*)"', DOCKERFILE.rpartition("\nENTRYPOINT ")[2])
    assert command[:4] == ["python", "-m", "marquee", "dashboard"]
    assert given(command) <= options_of("dashboard")
