"""The alert rules, by Prometheus' own tool: each is raised by what it is for, and a healthy server raises none."""

import subprocess

import pytest

from tests.deploy.files import ALERTS, DEPLOY, program, read
from tests.names import HANG_SECONDS

TESTS = DEPLOY / "alerts_test.yaml"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", ALERTS.name),
        ("test", "rules", TESTS.name),
        ("check", "config", "--syntax-only", "prometheus.yaml"),
    ],
)
def test_promtool_accepts_it(arguments):
    promtool = program("promtool", "`make debian` takes it from Debian's package prometheus")
    done = subprocess.run([promtool, *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways():
    rules = [rule["alert"] for group in read(ALERTS)["groups"] for rule in group["rules"]]
    assert len(set(rules)) == len(rules) > 10
    asked = [test for group in read(TESTS)["tests"] for test in group["alert_rule_test"]]
    raised = {test["alertname"] for test in asked if test.get("exp_alerts")}
    quiet = {test["alertname"] for test in asked if not test.get("exp_alerts")}
    assert raised == quiet == set(rules)


def test_every_alert_is_in_the_description():
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for group in read(ALERTS)["groups"]:
        for severity in ("page", "ticket"):
            named = [rule["alert"] for rule in group["rules"] if rule["labels"]["severity"] == severity]
            sentence = next(part for part in text.split(". ") if f"`{severity}` is for" in part)
            assert all(f"`{name}`" in sentence for name in named)


def test_every_alert_says_what_is_wrong_and_how_soon_it_matters():
    for group in read(ALERTS)["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"].keys() == {"summary", "description"}


def test_prometheus_reads_the_rules_and_scrapes_the_job_that_they_ask_for():
    config = read(DEPLOY / "prometheus.yaml")
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "marquee"
    assert [file.rpartition("/")[2] for file in config["rule_files"]] == [ALERTS.name]
