"""Whether the results that a report is about are of what the run holds now."""

from core.artifacts import MANIFEST, read_manifest, verify
from core.errors import UserError
from core.run_folder import Run
from models.baselines.base import baselines_of
from models.evaluation.results import judged_models, made_from, model_digest, read_results
from models.protocols.base import PROTOCOLS
from report.style import networks


def check_current(run: Run) -> None:
    """Refuses results that `evaluate` would make again, and kept files that are not as it wrote them.

    Raises:
        UserError: as `refuse_stale`; or a result is of a model that is not known, or a kept file is missing or was
            changed.
    """
    command = run.command("evaluate")
    for result in read_results(run):
        if result.protocol not in PROTOCOLS or result.model not in (*networks(), *baselines_of(result.protocol)):
            name = f"{result.protocol}, {result.model}"
            raise UserError(f"{run.evaluation} is of another version: {name} is not known; run again: {command}")
    refuse_stale(run)
    verify(run.judged, command)


def refuse_stale(run: Run) -> None:
    """Refuses what `evaluate` has kept where it is not of `evaluation.json`, or that is not of the run's networks.

    Reads manifests only, not the kept files.

    Raises:
        UserError: `evaluation.json` was changed, what is kept beside it is missing or of another evaluation, or a
            network was trained again or removed since; the message names the command that writes them.
    """
    command = run.command("evaluate")
    origin = made_from(run)
    if origin is None:
        raise UserError(f"{run.evaluation} was changed since evaluate wrote it; run again: {command}")
    if read_manifest(run.judged, command)["fingerprint"] != origin:
        raise UserError(f"{run.judged} and {run.evaluation} are of two evaluations; run again: {command}")
    for name, digest in judged_models(run).items():
        folder = run.models / name
        if not (folder / MANIFEST).is_file() or model_digest(read_manifest(folder)["files"]) != digest:
            raise UserError(f"{folder} has changed since {run.evaluation} was written; run again: {command}")
