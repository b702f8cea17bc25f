"""Pictures and tables of a server, from what was measured; the server itself is asked in tests/test_notebooks.py."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from shutil import rmtree

import numpy as np
import pandas as pd
import psutil
import pytest

from core.artifacts import seal
from core.errors import UserError
from core.run_folder import Run
from ensemble.client import Recommendations
from report.files import RunFiles
from report.notebooks.answers import most_rated, side_by_side, titles_of
from report.notebooks.latency import draw_latency, keep_latency, latency_table, latency_text
from report.notebooks.serving import beside, serving
from report.notebooks.switching import Switched, draw_switch, switch_table, switch_text
from report.picture import PICTURES
from tests.contracts.pictures import smallest_text
from tests.names import HANG_SECONDS
from tests.report.made_run import made_run
from tests.report.small_runs import files_of


def measured() -> pd.DataFrame:
    """100 requests of each kind, which took 1, 2, ... 100 ms; NCF's twice as long."""
    took = np.arange(1, 101, dtype=float)
    parts = [
        pd.DataFrame({"question": question, "model": model, "ms": took * (1 + place)})
        for question in ("recommend", "score")
        for place, model in enumerate(("dlrm", "ncf"))
    ]
    return pd.concat(parts, ignore_index=True)


def test_table_picture_and_text_have_the_same_percentiles():
    table = latency_table(measured())
    assert table.loc[("recommend", "DLRM")].tolist() == [100, 50.5, 99.01]
    assert table.loc[("score", "NCF")].tolist() == [100, 101.0, 198.02]
    text = latency_text(measured())
    assert "DLRM 50.5 ms at the median and 99.0 ms at the 99th percentile" in text
    assert "100 requests of each kind" in text
    panels = draw_latency(measured()).axes
    assert [axes.get_title().partition(":")[0] for axes in panels] == ["recommend", "score"]
    marks = [line.get_xdata().tolist() for line in panels[0].lines if len(line.get_xdata()) == 2]
    assert marks == [pytest.approx([50.5, 99.01]), pytest.approx([101.0, 198.02])]


# -- what is kept of it ------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path) -> Run:
    run = made_run(tmp_path)
    keep_latency(run, "leave-one-out", measured())
    return run


def test_the_measured_times_are_kept_with_their_count_and_hardware(kept):
    found = RunFiles(kept).served("leave-one-out")
    assert found.device == f"CPU, {os.cpu_count()} cores"
    assert asdict(found.took["recommend"]["dlrm"]) == pytest.approx(
        {"requests": 100, "median_ms": 50.5, "p99_ms": 99.01}
    )
    assert asdict(found.took["score"]["ncf"]) == pytest.approx({"requests": 100, "median_ms": 101.0, "p99_ms": 198.02})
    assert RunFiles(kept).served("random-split") is None


def test_another_measurement_replaces_that_of_its_protocol_alone(kept):
    keep_latency(kept, "random-split", measured())
    keep_latency(kept, "leave-one-out", measured().query("model == 'ncf'"))
    assert list(RunFiles(kept).served("leave-one-out").took["score"]) == ["ncf"]
    assert list(RunFiles(kept).served("random-split").took["score"]) == ["dlrm", "ncf"]


def test_the_picture_of_cost_shows_them(kept):
    picture, files = PICTURES["cost-leave-one-out"], RunFiles(kept)
    panel = picture.draw(files).axes[-1]
    assert "milliseconds of a request to Triton, median" in panel.get_xlabel()
    marks = {(line.get_fillstyle(), float(line.get_xdata()[0])) for line in panel.lines if len(line.get_xdata()) == 1}
    assert marks == {("full", 50.5), ("full", 101.0), ("none", 50.5), ("none", 101.0)}
    assert (
        "A request to Triton, median: recommend DLRM 50.5 ms and NCF 101.0 ms; score DLRM 50.5 ms and NCF 101.0 ms; "
        f"100 of each kind by one client, through the front door, all on one machine (CPU, {os.cpu_count()} cores)."
    ) in picture.text(files)
    assert smallest_text(picture.draw(files)) >= 8


def test_the_times_of_a_network_that_was_trained_again_are_not_shown(kept):
    folder = kept.model("leave-one-out", "ncf")
    (folder / "manifest.json").unlink()
    (folder / "history.json").write_text("[]")
    seal(folder, "1" * 64)
    assert list(RunFiles(kept).served("leave-one-out").took["score"]) == ["dlrm"]
    rmtree(kept.model("leave-one-out", "dlrm"))
    files = RunFiles(kept)
    assert files.served("leave-one-out") is None
    text = PICTURES["cost-leave-one-out"].text(files)
    assert "was not measured with these networks; notebooks/04-triton.ipynb does that" in text
    assert not [axes for axes in PICTURES["cost-leave-one-out"].draw(files).axes if "Triton" in axes.get_xlabel()]


@pytest.mark.parametrize("content", ["{", '{"leave-one-out": {"device": "CPU"}}', "[]"])
def test_a_file_of_something_else_is_named(kept, content):
    kept.latency.write_text(content)
    reason = PICTURES["cost-leave-one-out"].lacking(RunFiles(kept))
    assert str(kept.latency) in reason
    assert "04-triton" in reason


# -- a switch under load -----------------------------------------------------------------------------------------------


def switched(versions: list[int]) -> Switched:
    seconds = np.arange(len(versions), dtype=float)
    requests = pd.DataFrame({"seconds": seconds, "ms": seconds + 1, "version": versions})
    return Switched(requests, (1.0, 2.0), ["no answer"] * versions.count(0))


def test_a_switch_that_nobody_noticed_is_said_to_be_one():
    found = switched([1, 1, 1, 2, 2])
    assert found.failed == 0
    text = switch_text(found)
    assert "5 requests" in text
    assert "version 1 answered 3 and version 2 answered 2. None failed" in text
    assert "the slowest took 5 ms" in text
    assert switch_table(found)["answers"].to_dict() == {"version 1": 3, "version 2": 2}
    legend = [one.get_text() for one in draw_switch(found).axes[0].get_legend().get_texts()]
    assert legend == ["version 1: 3 answers", "version 2: 2 answers"]


def test_failures_are_counted_and_drawn():
    found = switched([1, 0, 0, 2])
    assert found.failed == 2
    assert "2 failed" in switch_text(found)
    assert switch_table(found)["answers"].to_dict() == {"failed": 2, "version 1": 1, "version 2": 1}
    legend = [one.get_text() for one in draw_switch(found).axes[0].get_legend().get_texts()]
    assert "failed: 2" in legend


def answer(*movies: int) -> Recommendations:
    scores = np.linspace(0.9, 0.5, len(movies), dtype=np.float32)
    return Recommendations(np.array(movies), scores, True, 1)


def test_lists_stand_side_by_side_with_a_dot_at_what_is_in_both(tmp_path):
    files = files_of(tmp_path)
    table = side_by_side(files, {"dlrm": answer(20, 30, 10), "ncf": answer(10, 20, 40)})
    assert table["DLRM", "movie"].tolist()[:2] == ["Night, The (1999)", "4th Night of the Day (2001)"]
    assert table["DLRM", "in both"].tolist() == ["●", "", "●"]
    assert table["NCF", "in both"].tolist() == ["●", "●", ""]
    assert table.index.tolist() == [1, 2, 3]
    assert "in both" not in side_by_side(files, {"ncf": answer(10)})["NCF"].columns


def test_titles_have_their_year_where_it_is_known(tmp_path):
    titles = titles_of(files_of(tmp_path))
    assert titles[20] == "Night, The (1999)"
    assert titles[40] == "Unknown"


def test_the_most_rated_movies_come_first_and_the_lower_id_of_equals(tmp_path):
    assert most_rated(files_of(tmp_path), 3) == [10, 20, 30]


def test_a_run_beside_another_leaves_that_as_it_is(tmp_path):
    run = made_run(tmp_path)
    (run.root / "features").mkdir()
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*")}
    with beside(run) as copy:
        assert RunFiles(copy).results == RunFiles(run).results
        assert copy.root.name == run.root.name
        copy.repository.mkdir()
        copy.evaluation.write_text("[]")
    assert not copy.root.exists()
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*")} == before


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(UserError, match=r"serve does not answer: .*repository"), serving(Run(tmp_path / "ml-100k")):
        pass


PROGRAM = """
import sys, time
from pathlib import Path
from core.run_folder import Run
from report.notebooks.serving import serving
with serving(Run(Path(sys.argv[1]))) as server:
    print(server.process.pid, server.url, flush=True)
    time.sleep(10_000)
"""


@pytest.mark.slow
def test_a_server_ends_with_the_notebook_even_where_that_is_killed(exported):
    command = [sys.executable, "-c", PROGRAM, str(exported.root)]
    kernels = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"}  # what a notebook's kernel sets
    environment = {**os.environ, **kernels, "PYTHONPATH": "."}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pid, url = process.stdout.readline().split()
        assert re.fullmatch(r"127\.0\.0\.1:\d+", url)
        served = psutil.Process(int(pid))
        children = served.children(recursive=True)
        assert children
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + HANG_SECONDS
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in (served, *children)):
        assert time.monotonic() < until
        time.sleep(0.1)
