"""The Kubernetes manifests: against the API's schemas, and one against the other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import ADAPTER, KUBERNETES, given, options_of, read

VERSIONS = ("1.31.0", kubernetes_validate.latest_version())
MANIFESTS = sorted(KUBERNETES.glob("*.yaml"))
LABELS = {"app.kubernetes.io/name": "marquee"}


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [one for file in MANIFESTS for one in yaml.safe_load_all(file.read_text()) if one["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    return manifest("Deployment")["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_it_has_the_schema_of_the_api(file: Path, version: str):
    for one in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schema_refuses_what_is_misspelt():
    wrong = manifest("Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_manifest_is_in_one_namespace_with_one_name():
    for file in MANIFESTS:
        one = read(file)
        if one["kind"] == "Namespace":
            assert one["metadata"]["name"] == "marquee"
        else:
            assert one["metadata"]["namespace"] == "marquee"
            assert one["metadata"]["labels"] == LABELS


def test_the_pod_may_do_what_the_restricted_profile_allows():
    assert manifest("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_writes_to_folders_of_its_own_and_reads_the_rest():
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert mounts["/exported"]["name"] == "repository"
    assert writable == {"/work", "/tmp", "/dev/shm"}
    for path in writable:
        assert volumes[mounts[path]["name"]]["emptyDir"]["sizeLimit"]
    claim = volumes["repository"]["persistentVolumeClaim"]
    assert claim == {"claimName": manifest("PersistentVolumeClaim")["metadata"]["name"], "readOnly": True}
    (secret,) = [one["value"] for one in container()["env"] if one["name"] == "MARQUEE_SECRET_FILE"]
    assert secret.startswith(mounts["/run/secrets/marquee"]["mountPath"] + "/")


def test_the_server_is_marquees():
    assert container()["args"][0] == "serve"
    assert given(container()["args"]) <= options_of("serve")
    assert "--repository=/exported/repository" in container()["args"]  # by its name: a new version takes it


def test_the_probes_are_marquees():
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container()[name]
        command = probe["exec"]["command"]
        assert command[:4] == ["python", "-m", "marquee", "health"]
        assert given(command) <= options_of("health")
        (timeout,) = [float(word.partition("=")[2]) for word in command if word.startswith("--timeout=")]
        assert timeout < probe["timeoutSeconds"]  # so that its line says why
        assert ("--live" in command) == (name == "livenessProbe")


def test_there_is_time_to_end_in_order():
    leaves = float(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["terminationGracePeriodSeconds"] >= leaves + 45


def test_what_selects_pods_selects_these():
    assert manifest("Deployment")["spec"]["template"]["metadata"]["labels"] == LABELS
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == LABELS
    assert manifest("Service")["spec"]["selector"] == LABELS
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifest(kind)["spec"][key]["matchLabels"] == LABELS


def test_ports_have_one_name_everywhere():
    named = {port["name"]: port["containerPort"] for port in container()["ports"]}
    options = dict(word.split("=", 1) for word in container()["args"] if "=" in word)
    assert (named["http"], named["metrics"]) == (int(options["--http-port"]), int(options["--metrics-port"]))
    for port in manifest("Service")["spec"]["ports"]:
        assert named[port["targetPort"]] == port["port"]
    allowed = {port["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == named.keys()


def test_nothing_goes_out():
    policy = manifest("NetworkPolicy")["spec"]
    assert "Egress" in policy["policyTypes"]
    assert policy["egress"] == []


def test_the_autoscaler_asks_for_the_adapters_metric():
    spec = manifest("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"]
    assert "replicas" not in manifest("Deployment")["spec"]  # it would set the number back at each change
    (asked,) = [metric["pods"]["metric"]["name"] for metric in spec["metrics"]]
    (rule,) = read(ADAPTER)["rules"]["custom"]
    assert rule["name"]["as"] == asked
    assert re.fullmatch(rule["name"]["matches"], rule["seriesQuery"].partition("{")[0])
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_the_operators_monitor_scrapes_the_service_with_the_secret():
    monitor = read(KUBERNETES / "prometheus" / "servicemonitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= manifest("Service")["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in manifest("Service")["spec"]["ports"]}
    (secret,) = [volume["secret"]["secretName"] for volume in pod()["volumes"] if "secret" in volume]
    assert endpoint["authorization"]["credentials"] == {"name": secret, "key": "secret"}
