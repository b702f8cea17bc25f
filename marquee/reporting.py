"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from core.progress import console, progress, working
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS
from marquee import __version__, pipeline
from marquee.inputs import require_evaluation
from marquee.options import DatasetOption, RunsOption

MEGABYTE = 1e6


def report(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write it: a new folder. Default: report/ in the run folder.", metavar="FOLDER"),
    ] = None,
    paper: Annotated[
        Path | None,
        typer.Option(
            help="Results of `paper --out` to show. Default: those that the checkout publishes.", metavar="FILE"
        ),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write each picture as PNG, too.")] = False,
) -> None:
    """Write report.html, which says in words, tables and pictures which model is better.

    It is one file that opens in a browser without a network. Its pictures are also written one by one, as SVG.
    Everything is drawn again from what `evaluate` has written.
    """
    run = pipeline.run_folder(dataset, runs)
    folder = out or run.report
    with run.lock():
        require_evaluation(run)
        with working("loading the models and matplotlib"):
            from report.made import write_report
            from report.picture import PICTURES
        with progress("pictures", len(PICTURES), "pictures") as bar:
            made_by = f"Marquee {__version__}"
            written = write_report(run, folder, bar, made_by=made_by, paper=paper, png=png)
            bar.finish("")
    size = written.path.stat().st_size / MEGABYTE
    console.print(f"{written.path}: {written.pictures} pictures, {size:.1f} MB", soft_wrap=True)
