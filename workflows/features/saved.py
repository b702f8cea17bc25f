"""Fitted NVTabular workflows on disk: sealed when saved, verified before they are loaded."""

from pathlib import Path

import core.gpu  # noqa: F401

import nvtabular as nvt

from core.artifacts import fingerprint, seal, verify


def save_workflow(workflow: nvt.Workflow, folder: Path) -> None:
    """Saves a fitted workflow into a new folder and seals it."""
    workflow.save(str(folder))
    seal(folder, fingerprint(workflow=folder.name))


def load_workflow(folder: Path) -> nvt.Workflow:
    """Loads one of a run's own workflows, after its manifest is verified.

    `Workflow.load` of NVTabular 23.8 unpickles (CVE-2025-33214), so nothing but a run's own folder may come here, and
    serving never does.

    Raises:
        UserError: a file is missing, changed, or not listed.
    """
    verify(folder)
    return nvt.Workflow.load(str(folder))
