"""The report says nothing of protocols that `run` does not ask and that no model is judged by."""

from pathlib import Path

import pytest

from core.registry import Registry
from report import made
from report.made import write_report
from report.picture import Picture
from tests.names import FOLDS, RATING, TEMPORAL
from tests.report.html_page import Page
from tests.report.made_run import made_run


def lacking(protocol: str) -> Picture:
    return Picture(
        name=f"curve-{protocol}",
        section="comparison",
        title=f"A curve of {protocol}",
        draw=lambda files: None,
        text=lambda files: "",
        protocol=protocol,
        lacking=lambda files: "there is none.",
    )


@pytest.mark.parametrize(
    ("protocol", "is_said"), [("leave-one-out", True), (RATING, False), (TEMPORAL, False), (FOLDS[0], False)]
)
def test_why_a_picture_is_not_there_is_said_of_what_run_asks(tmp_path: Path, monkeypatch, protocol, is_said):
    registry: Registry[Picture] = Registry("picture", "tests.report")
    registry._loaded = True
    registry.add("curve", lacking(protocol))
    monkeypatch.setattr(made, "PICTURES", registry)
    run = made_run(tmp_path)
    written = write_report(run, run.report, lambda by, note: None, made_by="Marquee 0", paper=None, png=False)
    items = [one.text for one in Page(written.path.read_text()).root.all("li")]
    assert (f"A curve of {protocol}: there is none." in items) == is_said
