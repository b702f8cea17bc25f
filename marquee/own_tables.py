"""Tables of the user's own on the command line: their run folders, and which of their columns says what."""

from collections.abc import Callable, Mapping
from pathlib import Path

from core.artifacts import MANIFEST
from core.errors import UserError
from core.run_folder import Run
from models.protocols.base import PROTOCOLS
from workflows.sources.datasets import DATASETS, SYNTHETIC
from workflows.sources.remote import at_hand, is_remote
from workflows.sources.table_columns import Columns, is_table, name_of, parse_columns, remembered


def run_of(dataset: str, runs: Path) -> Run | None:
    """The run folder of a table, by its path, or by its name where it was fetched before; None for a dataset.

    Raises:
        UserError: the table is called as a dataset is.
    """
    if is_table(dataset):
        name = name_of(Path(dataset))
        if not name.strip(". ") or name in DATASETS or name.startswith(SYNTHETIC):
            raise UserError(f"{dataset} would be called {name!r}, as a dataset is; give the file another name")
        return Run(runs / name)
    run = Run(runs / dataset)
    if dataset in DATASETS or Path(dataset).name != dataset or not (run.tables / MANIFEST).is_file():
        return None
    return run if remembered(run.tables) else None


def asked_for(
    run: Run, dataset: str, columns: str, others: Mapping[str, object], say: Callable[[str], None]
) -> tuple[str, Columns] | None:
    """The path or address of the table that is asked for, and its columns; None for a dataset.

    Args:
        columns: as `--columns` gives them; empty for those that the table was fetched with before.
        others: options that are for datasets alone, and their values.
        say: is given a line for each thing that a user should know.

    Raises:
        UserError: nobody has said which column is which, or an option is for datasets, or for tables.
    """
    before = None if dataset in DATASETS else remembered(run.tables)
    if not is_table(dataset) and not before:
        if columns:
            raise UserError("--columns is for a table of your own; give its path too, as in --dataset ratings.csv")
        return None
    for option, value in others.items():
        if value is not None:
            raise UserError(f"{option} is for a dataset by its name; a table is all that --dataset FILE says")
    where = before[0] if before and not is_table(dataset) else dataset
    if not is_remote(where):
        where = str(Path(where).absolute())
    if columns:
        return where, parse_columns(columns)
    if before and before[0] == where:
        return before
    from workflows.sources.any_table import suggestion

    raise UserError(f"{dataset}: {suggestion(at_hand(where, is_table, say))}")


def with_labels(run: Run, protocols: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the protocols that the run can be asked by: a table without ratings has positives alone."""
    table = remembered(run.tables)
    has_ratings = table is None or bool(table[1].rating)
    return tuple(name for name in protocols if has_ratings or PROTOCOLS[name].draws_negatives)
