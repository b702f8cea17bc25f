"""The command `report`: one line that says where it is, and one line where it cannot be made."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from core.json_files import write_json
from core.run_folder import Run
from marquee.app import main
from models.evaluation import compare_seeds
from tests.names import COMPARED, DEFAULT_PROTOCOLS
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


def write_comparison(run: Run) -> None:
    """Of leave-one-out as `compare` would find it now, of random-split as it was of other data."""
    models = {
        name: {
            "metrics": {"hr@10": 0.5, "ndcg@10": 0.25},
            "ci95": {"hr@10": [0.4, 0.6], "ndcg@10": [0.2, 0.3]},
            "per_seed": {"hr@10": [0.4, 0.6], "ndcg@10": [0.2, 0.3]},
            "train_seconds": 2.0,
        }
        for name in COMPARED
    }
    protocols = {
        protocol: {
            "seeds": [1, 2],
            **compare_seeds.origin(run, protocol, torch.device("cpu")),
            "models": models,
            "verdict": f"As compare says of {protocol}.",
        }
        for protocol in DEFAULT_PROTOCOLS
    }
    protocols["random-split"]["data"] = "other"
    found = {"dataset": run.root.name, "seeds": [1, 2], "device": "CPU, 2 cores", "protocols": protocols}
    write_json(run.root / "comparison.json", found)


@pytest.mark.slow
def test_the_report_of_a_run(trained, tmp_path, capsys):
    """Every picture that the project ships, of networks that were trained."""
    run = Run(tmp_path / trained.root.name)
    shutil.copytree(trained.root, run.root)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--dataset", run.root.name, "--runs", str(tmp_path), "--device", "cpu"])
    assert not ended.value.code
    capsys.readouterr()
    write_comparison(run)
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
    cards = {one.attributes["data-verdict"]: one.text for one in whole.all("article")}
    assert tuple(cards) == DEFAULT_PROTOCOLS
    assert "As compare says of leave-one-out. From 2 training seeds, 1 to 2:" in cards["leave-one-out"]
    assert "From one training seed each (42)" in cards["random-split"]
    dropped = "random-split is dropped, as the data have changed since; run again: python -m marquee compare"
    assert any(dropped in one.text for one in whole.all("p"))
