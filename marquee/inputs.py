"""Checks that a stage's input is there and its output can be written, before imports that take ten seconds."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from core.artifacts import MANIFEST, read_manifest
from core.errors import UserError
from core.run_folder import Run
from models.protocols.base import PROTOCOLS, preparing


def require_tables(run: Run) -> None:
    """Raises a UserError unless `fetch` was run."""
    read_manifest(run.tables, run.command("fetch"))


def require_features(run: Run, protocols: Sequence[str]) -> None:
    """Raises a UserError unless `prepare` was run."""
    for protocol in protocols:
        read_manifest(run.features_of(PROTOCOLS[protocol].split), run.command(preparing(protocol)))


def require_models(run: Run, protocol: str = "*") -> None:
    """Raises a UserError unless at least one model is trained for the protocol, or with `*` for any protocol."""
    found = run.models.glob(f"{protocol}/*/{MANIFEST}")
    if all(path.parent.name.startswith(".") for path in found):  # checkpoints of trainings that were killed
        where = run.root if protocol == "*" else run.models / protocol
        raise UserError(f"no model is trained in {where}; run: {run.command('train')}")


def require_repository(run: Run) -> None:
    """Raises a UserError unless `export` was run."""
    read_manifest(run.repository, run.command("export"))


def require_evaluation(run: Run) -> None:
    """Raises a UserError unless `evaluate` was run, and has kept what pictures need."""
    command = run.command("evaluate")
    if not run.evaluation.is_file():
        raise UserError(f"{run.evaluation} is missing; run: {command}")
    read_manifest(run.judged, command)


def require_writable(folder: Path | None, option: str) -> None:
    """Makes a folder, if an option names one, and raises a UserError where no file can be written into it."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option} {folder} cannot be written: {error.strerror}; choose another folder") from None
