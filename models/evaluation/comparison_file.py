"""The file that `compare` writes: which of its results still hold, and how new ones come to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from models.evaluation.compare_seeds import origin
from models.protocols.base import PROTOCOLS


def kept(run: Run, path: Path, asked: Sequence[str], device: torch.device) -> tuple[dict[str, Any], list[str]]:
    """What a file holds of other protocols than those that are asked about, as far as it still holds true.

    Returns:
        The results by protocol, and a sentence on each, and on each that is dropped.

    Raises:
        UserError: the file is there, and is not what `compare` writes.
    """
    if not path.is_file():
        return {}, []
    before = read_json(path, run.command("compare"))
    protocols = before.get("protocols") if isinstance(before, dict) else None
    if not isinstance(protocols, dict) or not all(isinstance(one, dict) for one in protocols.values()):
        raise UserError(f"{path} is not what compare writes; delete it, or choose another file with --out")
    results, sentences = {}, []
    for name in (name for name in protocols if name not in asked):
        reason = _stale(run, before.get("dataset"), name, protocols[name], device)
        if not reason:
            results[name] = protocols[name]
        sentences.append(f"{path}: {name} is dropped, as {reason}" if reason else f"{path}: keeps {name} as it is")
    return results, sentences


def _stale(run: Run, dataset: Any, protocol: str, judged: dict[str, Any], device: torch.device) -> str:
    """Why a protocol's results do not hold any more; empty where they do."""
    if dataset != run.root.name:
        return f"it is of the dataset {dataset}"
    if protocol not in PROTOCOLS:
        return "there is no such protocol"
    try:
        now = origin(run, protocol, device)
    except UserError:
        return "its features are not there any more"
    if "data" not in judged:
        return "it does not say which data it is of"
    if judged["data"] != now["data"]:
        return "the data have changed since"
    return "" if judged.get("made_from") == now["made_from"] else "settings, code or device have changed since"


def merged(found: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the results of other protocols, in the order of the protocols."""
    protocols = {**others, **found["protocols"]}
    return {**found, "protocols": {name: protocols[name] for name in PROTOCOLS if name in protocols}}
