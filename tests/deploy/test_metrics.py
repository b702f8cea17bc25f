"""The dashboard, the alerts and the autoscaler's metric ask for what the front door measures, by name and label."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ensemble.front_door.metrics import CANARY, CLIENT, GRPC, HTTP, OUTCOMES, Metrics
from ensemble.front_door.refusal import REASONS
from tests.deploy.files import ADAPTER, ALERTS, DASHBOARD, read

OF_PROMETHEUS = {"job", "instance", "namespace", "pod", "le"}
REHEARSED = ("passed", "failed")
VALUES = {"asker": {CLIENT, CANARY}, "reason": set(REASONS), "protocol": {GRPC, HTTP}}
SELECTOR = re.compile(r"\b(marquee_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
BY = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture(scope="module")
def measured() -> dict[str, set[str]]:
    """The labels of each series that the front door gives, by its name."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.ended("score", "grpc", "answered", CLIENT, 0.01)
    metrics.refused("score", "grpc", "busy", CLIENT)
    metrics.queue_seconds.labels("score").observe(0.01)
    metrics.triton_seconds.labels("score").observe(0.01)
    metrics.note({"count": "model_reloads", "model": "score"})
    metrics.note({"count": "rehearsals", "outcome": "failed"})
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def of_dashboard() -> Iterator[str]:
    """The dashboard's expressions, those of its variables too."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def of_alerts() -> Iterator[str]:
    return (rule["expr"] for group in read(ALERTS)["groups"] for rule in group["rules"])


def of_adapter() -> Iterator[str]:
    for rule in read(ADAPTER)["rules"]["custom"]:
        yield rule["seriesQuery"]


EXPRESSIONS = {"dashboard": of_dashboard, "alerts": of_alerts, "adapter": of_adapter}


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_every_metric_and_label_is_one_of_the_front_doors(place, measured):
    asked = 0
    for expression in EXPRESSIONS[place]():
        for name, matchers in SELECTOR.findall(expression):
            asked += 1
            assert name in measured, f"{expression}: {name} is not measured"
            for label, kind, value in MATCHER.findall(matchers):
                assert label in measured[name] | OF_PROMETHEUS, f"{expression}: {name} has no {label}"
                if not value.startswith("$"):
                    check_value(name, label, value if kind in ("=", "!=") else value.split("|"))
    assert asked >= {"dashboard": 12, "alerts": 14, "adapter": 1}[place]


def check_value(name: str, label: str, value: Any) -> None:
    """That the label can have the value."""
    outcomes = set(REHEARSED if name == "marquee_rehearsals_total" else OUTCOMES)
    known = {**VALUES, "outcome": outcomes}.get(label)
    assert known is None or known >= ({value} if isinstance(value, str) else set(value)), f"{name}: {label}={value}"


def test_every_metric_is_on_the_dashboard(measured):
    text = "\n".join(of_dashboard())
    for name in measured:
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        assert base.removesuffix("_total") in text, f"{base} is shown nowhere"


@pytest.mark.parametrize("place", ["dashboard", "alerts"])
def test_no_expression_takes_the_supervisors_questions_for_traffic(place):
    for expression in EXPRESSIONS[place]():
        for name, matchers in SELECTOR.findall(expression):
            if 'reason="secret"' in matchers:
                continue  # the one who guesses chooses the headers
            if name.startswith(("marquee_requests", "marquee_refusals", "marquee_request_")) and "rate(" in expression:
                assert re.search(r'\basker="(client|canary)"', matchers), expression


def test_what_a_panel_groups_by_is_a_label(measured):
    for expression in (*of_dashboard(), *of_alerts()):
        labels = {label for name, _ in SELECTOR.findall(expression) for label in measured[name]} | OF_PROMETHEUS
        for groups in BY.findall(expression):
            assert set(groups.replace(" ", "").split(",")) <= labels, expression


def test_panels_have_an_id_and_a_place_of_their_own():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
