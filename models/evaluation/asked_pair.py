"""What `compare` has found about any two models, from the file that it wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from models.evaluation import comparison_file
from models.evaluation.pairs import sentence
from models.protocols.base import PROTOCOLS


def about_pair(run: Run, protocols: Sequence[str], pair: tuple[str, str], path: Path) -> list[str]:
    """A sentence for each of the protocols that has judged both models.

    Raises:
        UserError: the file is missing or is not what `compare` writes, none of its results holds any more, or no
            protocol has judged both models.
    """
    one, other = pair
    if one == other:
        raise UserError(f"--pair {one} {other} names one model twice; give two")
    command = run.command("compare")
    if not path.is_file():
        raise UserError(f"{path} is missing; run: {command}")
    holding, dropped = results_holding(run, path)
    judged = {name: holding[name] for name in protocols if name in holding}
    if not judged:
        raise UserError(f"{path} has no results of {', '.join(protocols)} that still hold; run: {command}")
    known = list(dict.fromkeys(model for found in judged.values() for model in found["models"]))
    for name in pair:
        if name not in known:
            raise UserError(f"{path} has no model {name!r}; choose two of {', '.join(known)}")
    both = {name: found for name, found in judged.items() if {one, other} <= found["models"].keys()}
    if not both:
        raise UserError(f"{path}: no protocol has judged both {one} and {other}")
    return [f"{PROTOCOLS[name].title}: {sentence(name, one, other, found)}" for name, found in both.items()] + [
        f"{said}; run again: {command}" for said in dropped
    ]


def results_holding(run: Run, path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The results of a file that are of the data, settings and code that are there, and why others are not."""
    found = read_json(path, run.command("compare"))
    device = str(found.get("device", "")) if isinstance(found, dict) else ""
    kind = "cpu" if device.startswith("CPU") else "cuda"  # that it is read here changes nothing
    holding, sentences = comparison_file.kept(run, path, (), torch.device(kind))
    return holding, [said for name, said in zip(found["protocols"], sentences) if name not in holding]
