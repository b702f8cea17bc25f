"""What each stage took: when it is written, what memory counts, and how it is reported."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from core.resources import STAGES, measured, read_stages, stages_line
from core.run_folder import Run
from tests.names import HANG_SECONDS

MEGABYTES = 200


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


def take(run: Run, stage: str, counts: bool = True, error: type[BaseException] | None = None) -> None:
    with measured(run, stage) as measure:
        measure.counts = counts
        if error:
            raise error


def fill(megabytes: int) -> float:
    """Touches so much memory, and gives it back."""
    return float(np.ones(megabytes * 1_000_000 // 8).sum())


def peak_can_be_forgotten() -> bool:
    return os.access("/proc/self/clear_refs", os.W_OK)


def test_a_stage_that_had_something_to_do_is_written(run):
    with measured(run, "prepare") as measure:
        assert measure.counts is False
        measure.counts = True
        time.sleep(0.2)
        assert not run.stages.exists()
    (took,) = json.loads(run.stages.read_text()).values()
    assert took.keys() == {"seconds", "peak_mb"}
    assert 0.2 <= took["seconds"] < HANG_SECONDS
    assert took["peak_mb"] > 10  # this process with NumPy
    assert [path.name for path in run.root.iterdir()] == ["stages.json"]


def test_a_stage_with_nothing_to_do_leaves_what_was_there(run):
    take(run, "fetch", counts=False)
    assert not run.stages.exists()
    take(run, "fetch")
    before = run.stages.read_bytes()
    with measured(run, "fetch"):
        fill(MEGABYTES)
        time.sleep(0.2)
    assert run.stages.read_bytes() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stage_that_fails_is_not_written(run, error):
    take(run, "fetch")
    before = run.stages.read_bytes()
    with pytest.raises(error):
        take(run, "prepare", error=error)
    assert run.stages.read_bytes() == before


def test_a_stage_done_again_replaces_its_own_numbers_only(run):
    take(run, "fetch")
    with measured(run, "prepare") as measure:
        measure.counts = True
        time.sleep(0.3)
    before = read_stages(run)
    take(run, "prepare")
    after = read_stages(run)
    assert after["fetch"] == before["fetch"]
    assert after["prepare"] != before["prepare"]


@pytest.mark.skipif(not peak_can_be_forgotten(), reason="needs Linux' /proc/self/clear_refs")
def test_the_peak_is_the_stages_own(run):
    take(run, "fetch")
    with measured(run, "prepare") as measure:
        measure.counts = True
        fill(MEGABYTES)
    take(run, "train")
    fetched, prepared, trained = (took["peak_mb"] for took in read_stages(run).values())
    assert 0.95 * MEGABYTES < prepared - fetched < 1.5 * MEGABYTES
    assert prepared - trained > 0.9 * MEGABYTES


def test_without_proc_the_peak_is_that_of_the_process(run, monkeypatch):
    monkeypatch.setattr("core.resources.SELF", Path("/nowhere"))
    fill(MEGABYTES)
    take(run, "train")
    assert read_stages(run)["train"]["peak_mb"] > MEGABYTES


def test_stages_are_read_in_the_order_of_the_pipeline(run):
    assert read_stages(run) == {}
    for stage in reversed(STAGES):
        take(run, stage)
    took = json.loads(run.stages.read_text())
    run.stages.write_text(json.dumps({**took, "polish": {"seconds": 1, "peak_mb": 1}}))
    assert list(read_stages(run)) == list(STAGES)
    assert read_stages(run) == took


def test_the_line_that_is_printed(run):
    took = {
        "train": {"seconds": 4567.8, "peak_mb": 1234},
        "fetch": {"seconds": 0.2, "peak_mb": 120},
        "prepare": {"seconds": 89.6, "peak_mb": 3456},
    }
    run.stages.write_text(json.dumps(took))
    assert stages_line(run) == "Stages: fetch 0 s, prepare 90 s, train 4,568 s; peak memory 3.5 GB"


def test_the_line_where_nothing_was_measured_is_a_line(run):
    """`stages.json` was deleted, and everything else was reused."""
    assert "\n" not in stages_line(run)
