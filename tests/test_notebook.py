"""The notebook runs over any run folder, and what is committed was executed and has its pictures."""

import json
from pathlib import Path

import nbformat
import pytest
import torch

from tests.names import DEFAULT_PROTOCOLS, HANG_SECONDS

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "dlrm-vs-ncf.ipynb"


def pictures(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_the_committed_notebook_was_executed_in_order_and_shows_its_pictures():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(pictures(notebook)) == 2
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


@pytest.mark.slow
def test_it_runs_over_another_run_folder(trained, monkeypatch):
    from nbclient import NotebookClient

    from models.evaluation.evaluate import evaluate

    evaluate(trained, torch.device("cpu"), lambda *_: None)
    monkeypatch.setenv("MARQUEE_RUN", str(trained.root))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=HANG_SECONDS, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    assert len(pictures(notebook)) == 2
    assert "run: python -m marquee compare" in notebook.cells[-1].outputs[0].text
    tables = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output and "text/html" in output.data
    ]
    assert len(tables) == len(DEFAULT_PROTOCOLS)
    for title in ("DLRM", "NCF", "matrix factorisation", "EASE", "HR@10, all movies"):
        assert title in tables[0]


@pytest.mark.slow
def test_it_says_what_several_seeds_have_settled(trained, monkeypatch, tmp_path):
    from nbclient import NotebookClient

    from models.evaluation.evaluate import evaluate

    evaluate(trained, torch.device("cpu"), lambda *_: None)
    for path in trained.root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    sentences = {protocol: {"verdict": f"DLRM is better: {protocol}."} for protocol in DEFAULT_PROTOCOLS}
    (tmp_path / "comparison.json").write_text(json.dumps({"protocols": sentences}))
    monkeypatch.setenv("MARQUEE_RUN", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=HANG_SECONDS, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    last = notebook.cells[-1].outputs[0].text
    assert last == "".join(f"{protocol}: DLRM is better: {protocol}.\n" for protocol in DEFAULT_PROTOCOLS)
