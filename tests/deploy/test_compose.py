"""Both compose files: against the schema of compose files, and for what they must not leave out."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.deploy.files import DEPLOY, ROOT, given, options_of, read
from tests.names import HANG_SECONDS

COMPOSE = DEPLOY / "compose.yaml"
SERVICES = read(COMPOSE)["services"]
DOCKER = ROOT / "docker"
ROAD = read(DOCKER / "compose.yaml")  # includes the other
TRAIN, PAGE = ROAD["services"]["train"], ROAD["services"]["page"]


@pytest.mark.parametrize("file", [COMPOSE, DOCKER / "compose.yaml"], ids=["deploy", "docker"])
def test_it_has_the_schema_of_compose_files(file):
    pytest.importorskip("check_jsonschema", reason="`make venv` installs it")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_container_can_change_nothing_of_its_own_and_is_reached_from_this_machine_only():
    for service in (*SERVICES.values(), PAGE):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service.get("build") or re.search(r":v?\d+\.\d+\.\d+$", service["image"])  # a tag that does not move


def test_the_server_is_the_serving_image_and_marquees_command():
    server = SERVICES["marquee"]
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).resolve().is_relative_to(ROOT)
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert server["command"][0] == "serve"
    health = server["healthcheck"]["test"]
    assert health[:5] == ["CMD", "python", "-m", "marquee", "health"]
    assert given(health) <= options_of("health")
    assert given(server["command"]) <= options_of("serve")
    work = next(mount for mount in server["tmpfs"] if mount.startswith("/work:"))
    assert "exec" in shlex.split(work.partition(":")[2].replace(",", " "))  # Triton starts programs from there


def test_what_is_mounted_from_this_folder_is_there():
    mounts = [mount for service in SERVICES.values() for mount in service["volumes"]]
    sources = [mount["source"] for mount in mounts if mount["source"].startswith("./")]
    assert len(sources) == 5
    for source in sources:
        assert (DEPLOY / source).is_file()
    assert all(mount["read_only"] for mount in mounts if mount["type"] == "bind")


def test_the_dashboard_is_where_grafana_looks():
    targets = {mount["source"]: mount["target"] for mount in SERVICES["grafana"]["volumes"]}
    (provider,) = read(DEPLOY / "grafana" / "dashboards.yaml")["providers"]
    assert targets["./grafana.json"].startswith(provider["options"]["path"] + "/")
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == targets["./grafana.json"]
    (source,) = read(DEPLOY / "grafana" / "datasource.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_asks_the_servers_metrics_port_with_its_secret():
    (job,) = read(DEPLOY / "prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["marquee:8002"]}]
    assert "--metrics-port=8002" in SERVICES["marquee"]["command"]
    assert job["authorization"]["credentials_file"] == SERVICES["marquee"]["environment"]["MARQUEE_SECRET_FILE"]
    assert SERVICES["prometheus"]["secrets"] == SERVICES["marquee"]["secrets"]


def test_the_whole_road_serves_the_repository_that_training_wrote():
    (included,) = ROAD["include"]
    assert (DOCKER / included["path"]).resolve() == COMPOSE
    server = next(mount for mount in SERVICES["marquee"]["volumes"] if mount["target"] == "/exported")
    assert server["source"].startswith("${MARQUEE_EXPORTED:?")
    assert "--repository=/exported/repository" in SERVICES["marquee"]["command"]  # by its name, not mounted itself
    given_to_it = (DOCKER / included["env_file"]).read_text().splitlines()[-1]
    runs = {mount["target"]: mount["source"] for mount in TRAIN["volumes"]}["/marquee/runs"]
    assert given_to_it == f"MARQUEE_EXPORTED={runs}/${{MARQUEE_DATASET:-ml-100k}}"
    assert {mount["target"]: mount["source"] for mount in PAGE["volumes"]}["/marquee/runs"] == runs
    assert all("--dataset=${MARQUEE_DATASET:-ml-100k}" in service["command"] for service in (TRAIN, PAGE))


def test_training_is_asked_for_and_has_the_gpu():
    assert TRAIN["profiles"] == ["train"]
    (device,) = TRAIN["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert TRAIN["command"][0] == "run"
    assert given(TRAIN["command"]) <= options_of("run")
    assert TRAIN["build"] == {
        "context": "..",
        "dockerfile": "docker/Dockerfile",
        "args": {"FRAMEWORK": "${FRAMEWORK:-pytorch}"},
    }


def test_the_page_asks_the_server_with_its_secret():
    assert PAGE["build"]["dockerfile"] == "docker/page.Dockerfile"
    assert given(PAGE["command"]) <= options_of("dashboard")
    assert PAGE["environment"]["MARQUEE_URL"] == "marquee:8001"
    assert any(port.endswith(":8001") for port in SERVICES["marquee"]["ports"])
    assert PAGE["environment"]["MARQUEE_SECRET_FILE"] == SERVICES["marquee"]["environment"]["MARQUEE_SECRET_FILE"]
    assert PAGE["secrets"] == SERVICES["marquee"]["secrets"]
    assert PAGE["depends_on"] == {"marquee": {"condition": "service_healthy"}}
    assert all(mount.get("read_only") for mount in PAGE["volumes"] if mount["type"] == "bind")
