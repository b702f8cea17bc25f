"""What `compare` and `paper` have found, where it is: in the run folder, and as it is published with the project."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass

from core.artifacts import CHECKOUT
from core.errors import UserError
from core.json_files import STRICT, read_json, validated
from core.run_folder import Run
from models.evaluation import compare_seeds
from models.evaluation.ncf_paper import PUBLISHED
from models.evaluation.paper_results import Row, read_rows
from models.protocols.base import PROTOCOLS

PUBLISHED_RESULTS = CHECKOUT / "bench" / "accuracy"  # a container has none
PAPER = PUBLISHED_RESULTS / "paper.json"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JudgedModel:
    """A model's figures over several training seeds, as in `models.evaluation.compare_seeds.summary`."""

    metrics: dict[str, float | None]
    ci95: dict[str, tuple[float, float] | None]
    per_seed: dict[str, list[float | None]]
    train_seconds: float
    undefined: dict[str, str] | None = None
    left_out: dict[str, int] | None = None
    others: tuple[int, int] | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Judged:
    """One protocol's results of several training seeds.

    Attributes:
        verdict: what `compare` says of its networks.
    """

    seeds: list[int]
    models: dict[str, JudgedModel]
    verdict: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Compared:
    """What `compare` found.

    Attributes:
        device: what it was trained on, in words.
        protocols: the results that still hold, by protocol.
        dropped: why others do not, a sentence each.
    """

    device: str = ""
    protocols: dict[str, Judged] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


def compared_in(run: Run) -> Compared:
    """What the run's `comparison.json` holds, as far as it is of the data, settings and code that are there.

    Raises:
        UserError: it is not what `compare` writes.
    """
    path = run.root / "comparison.json"
    if not path.is_file():
        return Compared()
    found = read_json(path, run.command("compare"))
    device = str(found.get("device", "")) if isinstance(found, dict) else ""
    kind = "cpu" if device.startswith("CPU") else "cuda"  # that it is read here changes nothing
    holding, sentences = compare_seeds.kept(run, path, (), torch.device(kind))
    dropped = [said for name, said in zip(found["protocols"], sentences) if name not in holding]
    command = run.command("compare")
    return Compared(
        device=device,
        protocols={name: _judged(one, found.get("seeds"), f"{path}, {name}", command) for name, one in holding.items()},
        dropped=[f"{said}; run again: {command}" for said in dropped],
    )


def published_for(run: Run, counts: Mapping[str, int]) -> dict[str, Judged]:
    """What the project publishes of the run's dataset, by protocol; nothing where its data are others.

    Args:
        counts: how many ratings, users and movies the run has.
    """
    path = PUBLISHED_RESULTS / f"{run.root.name}.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    if found["counts"] != dict(counts):
        return {}
    return {
        name: _judged(found["protocols"][name], found["seeds"], f"{path}, {name}")
        for name in PROTOCOLS
        if name in found["protocols"]
    }


def _judged(value: Mapping[str, Any], seeds: Any, where: str, command: str = "") -> Judged:
    """A protocol's part of the file; the differences of single metrics are left out."""
    chosen = {"seeds": value.get("seeds", seeds), **{key: value[key] for key in ("models", "verdict") if key in value}}
    return validated(Judged, chosen, where, command)


def paper_results(path: Path | None) -> tuple[Path, Sequence[Row], Mapping[str, Sequence[float]]] | None:
    """What `paper` found: its file, one result for each model and seed, and HR@10 and NDCG@10 as others published them.

    Args:
        path: what `paper --out` has written; None for what the project publishes, where it is there.

    Raises:
        UserError: `path` is missing, or is not what `paper` writes.
    """
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path} is missing; run: python -m marquee paper --out {path} --data FOLDER")
        return path, read_rows(path), PUBLISHED
    if not PAPER.is_file():
        return None
    found = read_json(PAPER)
    return PAPER, found["results"], found["published"]
