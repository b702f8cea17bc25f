"""Whether the results that a report is about are of what the run holds now."""

from core.artifacts import MANIFEST, read_manifest, verify
from core.errors import UserError
from core.run_folder import Run
from models.baselines.base import baselines_of
from models.evaluation.results import judged_models, made_from, model_digest, read_results
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS


def check_current(run: Run) -> None:
    """Refuses results that `evaluate` would make again.

    Raises:
        UserError: `evaluation.json` or what is kept beside it is missing, was changed, is of another evaluation, or of
            networks that are not there any more; the message names the command that writes them.
    """
    command = run.command("evaluate")
    for result in read_results(run):
        if result.model not in (*NETWORKS, *baselines_of(result.protocol)) or result.protocol not in PROTOCOLS:
            name = f"{result.protocol}, {result.model}"
            raise UserError(f"{run.evaluation} is of another version: {name} is not known; run again: {command}")
    origin = made_from(run)
    if origin is None:
        raise UserError(f"{run.evaluation} was changed since evaluate wrote it; run again: {command}")
    if verify(run.judged, command)["fingerprint"] != origin:
        raise UserError(f"{run.judged} and {run.evaluation} are of two evaluations; run again: {command}")
    for name, digest in judged_models(run).items():
        folder = run.models / name
        if not (folder / MANIFEST).is_file() or model_digest(read_manifest(folder)["files"]) != digest:
            raise UserError(f"{folder} has changed since {run.evaluation} was written; run again: {command}")
