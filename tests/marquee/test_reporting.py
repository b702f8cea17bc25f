"""The command `report`: one line that says where it is, and one line where it cannot be made."""

import json
import shutil
from pathlib import Path

import pytest

from core.run_folder import Run
from marquee.app import main
from tests.names import DEFAULT_PROTOCOLS
from tests.report.html_page import Page
from tests.report.made_run import made_run

MOST_BYTES = 3_000_000


def report(run: Run, capsys: pytest.CaptureFixture, *options: object) -> tuple[int, str, str]:
    """Its exit code, and what it prints."""
    with pytest.raises(SystemExit) as ended:
        main(["report", "--dataset", run.root.name, "--runs", str(run.root.parent), *map(str, options)])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_it_needs_an_evaluation_and_what_was_kept(tmp_path, capsys):
    run = Run(tmp_path / "ml-latest-small")
    command = f"python -m marquee evaluate --dataset ml-latest-small --runs {tmp_path}"
    code, out, error = report(run, capsys)
    assert (code, out) == (2, "")
    assert "".join(error.split()) == "".join(f"error: {run.evaluation} is missing; run: {command}".split())
    run = made_run(tmp_path)
    shutil.rmtree(run.judged)
    code, _, error = report(run, capsys)
    assert code == 2
    assert "".join(f"{run.judged} is missing or incomplete; run: {command}".split()) in "".join(error.split())
    assert "Traceback" not in error
    assert not run.report.exists()


def test_a_paper_that_is_not_there_is_said(tmp_path, capsys):
    code, _, error = report(made_run(tmp_path), capsys, "--paper", tmp_path / "none.json")
    assert code == 2
    assert "none.json is missing" in " ".join(error.split())


@pytest.mark.slow
def test_the_report_of_a_run(trained, tmp_path, capsys):
    """Every picture that the project ships, of networks that were trained."""
    run = Run(tmp_path / trained.root.name)
    shutil.copytree(trained.root, run.root)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--dataset", run.root.name, "--runs", str(tmp_path), "--device", "cpu"])
    assert not ended.value.code
    capsys.readouterr()
    code, out, error = report(run, capsys, "--png")
    assert (code, error) == (0, "")
    page = run.report / "report.html"
    assert str(page) in "".join(out.split())
    assert page.stat().st_size < MOST_BYTES
    listed = json.loads((run.report / "pictures.json").read_text())
    whole = Page(page.read_text(encoding="utf-8")).root
    assert {f"picture-{one['name']}" for one in listed} == {
        svg.attributes["id"] for one in whole.all("figure") for svg in one.all("svg")
    }
    for one in listed:
        for kind in ("svg", "png"):
            assert Path(run.report, "pictures", f"{one['name']}.{kind}").stat().st_size > 0
        assert one["title"]
        assert one["text"]
    ids = [one.attributes["id"] for one in whole.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert len(whole.all("article")) == len(DEFAULT_PROTOCOLS)
