"""Executes the notebooks and keeps what they show: `python tools/notebooks.py [01-explore ...]`.

They are executed in the order of their names but for the comparison, which shows what 04-triton has measured and is the
last. It is over `runs/ml-100k` or the run that `$MARQUEE_RUN` names. What is written has no times and nothing else that
differs from one execution to the next without a reason.
"""

import os
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
COMPARISON = "03-dlrm-vs-ncf"
KERNEL = "python3"
RUN = "MARQUEE_RUN"
CELL_SECONDS = 1500  # of a cell, after which it is taken for hung
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": KERNEL},
    "language_info": {"name": "python"},
}
TEXT = ("text/plain", "text/html", "text/markdown")


def main(*names: str) -> int:
    """Executes these notebooks, or all; returns the exit code. One that fails or warns is not written."""
    from nbclient.exceptions import CellExecutionError  # what is written can be checked without it

    paths = [NOTEBOOKS / f"{name}.ipynb" for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"), key=_turn)
    if chosen := os.environ.get(RUN):  # relative to where this was called, and not to the notebooks
        os.environ[RUN] = str(Path(chosen).absolute())
    for path in paths:
        try:
            notebook = executed(path)
            wrong = blemishes(notebook)
        except CellExecutionError as error:
            wrong = [f"{error.ename}: {error.evalue}"]
        if wrong:
            print(f"error: {path.name} was not written: {wrong[0]}", file=sys.stderr)
            return 1
        nbformat.write(notebook, path)
        print(f"{path.relative_to(ROOT)} executed")
    return 0


def _turn(path: Path) -> tuple[bool, str]:
    return path.stem == COMPARISON, path.stem


def executed(path: Path) -> NotebookNode:
    """A notebook with new outputs, normalised.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name=KERNEL,
        startup_timeout=CELL_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # other users of the machine may listen
        resources={"metadata": {"path": path.parent}},
    ).execute()
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Only what a reader sees stays: no times, no versions of the kernel; cells are named by their place."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for place, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{place}", NotebookNode()
        for output in cell.get("outputs", ()):
            alone = set(output.get("data", {})) & {"image/png", "text/markdown"}
            if alone:
                output.data.pop("text/plain", None)  # the name of a Python class
    return notebook


def blemishes(notebook: NotebookNode) -> list[str]:
    """What must not be kept: warnings and other output on standard error, and paths of this machine."""
    found = []
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    own = {str(ROOT), str(Path.home()), os.environ.get("TMPDIR", "/tmp"), sys.prefix}
    paths = re.compile("|".join(re.escape(path) + "/" for path in sorted(own, key=len, reverse=True)))
    for output in outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            found.append(f"it says {' '.join(text_of(output).split())[:200]!r}")
        elif match := paths.search(text_of(output)):
            found.append(f"it names {match[0]}, a folder of this machine")
    return found


def text_of(output: NotebookNode) -> str:
    """What an output says, without its pictures."""
    said = [output.get("text", ""), output.get("evalue", ""), *map(str, output.get("metadata", {}).values())]
    said += [output.data[kind] for kind in TEXT if kind in output.get("data", {})]
    return "\n".join(said)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
