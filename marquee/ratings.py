"""The commands about the ratings of the people who use the page."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from core.artifacts import read_manifest
from core.columns import RATINGS_COLUMNS
from core.errors import UserError, naming
from core.json_files import validated
from core.partial import partial_file
from core.progress import console
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, Run
from dashboard.store import Export, Store, StoreError
from marquee import pipeline
from marquee.help import CONTEXT_SETTINGS, Command, Group
from marquee.options import DatasetOption, RunsOption

app = typer.Typer(
    cls=Group,
    context_settings=CONTEXT_SETTINGS,
    no_args_is_help=True,
    help="What the people who use the page have rated.",
)


@app.command(cls=Command)
def export(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    database: Annotated[
        Path | None, typer.Option(help="The page's file. Default: people.sqlite3 in the run folder.", metavar="FILE")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE")] = Path("ratings.csv"),
) -> None:
    """Write people's ratings as a ratings.csv in MovieLens' layout, for --more-ratings of `fetch` and `run`.

    Someone who is not a user of the dataset gets a user id above the dataset's own, the same in every export.
    """
    run = pipeline.run_folder(dataset, runs)
    largest = largest_user(run)
    path = database or run.people
    if not path.is_file():
        raise UserError(f"{path} does not exist; nobody has rated a movie on the page of {run.root.name} yet")
    _refuse_dataset(out)
    try:
        found = Store(path, run.root.name).export(largest)
    except StoreError as error:
        raise UserError(str(error)) from None
    if not found.rows:
        raise UserError(f"{path} holds no ratings; rate movies on the page first")
    with naming(out):
        _write(found, out)
    _tell(found, run, out)


def largest_user(run: Run) -> int:
    """The largest user id of a run's dataset, without the people of an earlier export.

    Raises:
        UserError: `fetch` was not run, or not by this version of Marquee.
    """
    from workflows.sources.fetch import LARGEST_USER

    manifest = read_manifest(run.tables, run.command("fetch"))
    if LARGEST_USER not in manifest:
        raise UserError(f"{run.tables} is of an earlier Marquee; run: {run.command('fetch')}")
    return validated(int, manifest[LARGEST_USER], f"{run.tables}, {LARGEST_USER}", run.command("fetch"))


def _refuse_dataset(out: Path) -> None:
    """Raises a UserError where the file to write may be a dataset's own."""
    if out.exists() and (out.parent / "movies.csv").exists():
        raise UserError(f"{out} is beside a movies.csv, so it may be a dataset's own; give another file with --out")


def _write(found: Export, out: Path) -> None:
    """Writes the rows whole or not at all."""
    lines = [",".join(RATINGS_COLUMNS)]
    lines += [f"{user},{movie},{stars:.1f},{timestamp}" for user, movie, stars, timestamp in found.rows]
    with partial_file(out) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        os.replace(partial, out)


def _tell(found: Export, run: Run, out: Path) -> None:
    """Says what was written, and the command that reads it."""
    users = sorted({user for user, *_ in found.rows})
    new = f", {found.new_users:,} of them new (ids {users[-found.new_users]} to {users[-1]})" if found.new_users else ""
    if found.moved:
        console.print(
            f"warning: {found.moved:,} people have new ids, as {run.root.name} has users of those that they had before",
            soft_wrap=True,
        )
    console.print(f"{out}: {len(found.rows):,} ratings of {len(users):,} users{new}", soft_wrap=True)
    console.print(f"    {run.command('run')} --more-ratings {shlex.quote(str(out))}", soft_wrap=True)
