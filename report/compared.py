"""What `compare` and `paper` have found, where it is: in the run folder, and as it is published with the project."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from core.artifacts import CHECKOUT
from core.errors import UserError
from core.json_files import STRICT, read_json, validated
from core.run_folder import Run
from models.evaluation import compare_seeds
from models.evaluation.asked_pair import results_holding
from models.evaluation.ncf_paper import PUBLISHED
from models.evaluation.paper_results import Row, read_rows
from models.protocols.base import PROTOCOLS

PUBLISHED_RESULTS = CHECKOUT / "bench" / "accuracy"  # a container has none
PAPER = PUBLISHED_RESULTS / "paper.json"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JudgedModel:
    """A model's figures over several training seeds, as in `models.evaluation.summaries.summary`."""

    metrics: dict[str, float | None]
    ci95: dict[str, tuple[float, float] | None]
    per_seed: dict[str, list[float | None]]
    per_split: dict[str, list[float | None]] | None = None
    train_seconds: float
    undefined: dict[str, str] | None = None
    left_out: dict[str, int] | None = None
    others: tuple[int, int] | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Judged:
    """One protocol's results of several training seeds.

    Attributes:
        verdict: what `compare` says of its models.
        splits: the seed of each split that was judged; None where the file does not say it.
    """

    seeds: list[int]
    splits: list[int] | None = None
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


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What `paper` found.

    Attributes:
        rows: one for each model and seed.
        published: HR@10 and NDCG@10 as others published them, by their source.
        is_own: whether the project publishes it, so that it is of no network of the run.
    """

    rows: list[Row]
    published: dict[str, tuple[float, float]]
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Results that a report shows beside the run's own.

    Attributes:
        compared: what `compare` found in this run.
        published: what the project publishes of the run's dataset, by protocol.
        paper: what `paper` found; None where there is nothing of it.
    """

    compared: Compared = field(default_factory=Compared)
    published: dict[str, Judged] = field(default_factory=dict)
    paper: Paper | None = None


def beside(run: Run, paper: Path | None) -> Beside:
    """Everything that there is.

    Args:
        paper: what `paper --out` has written; None for what the project publishes, where it is there.

    Raises:
        UserError: a file is missing, or is not what its command writes.
    """
    return Beside(compared=compared_in(run), published=published_for(run), paper=_paper(paper))


def compared_in(run: Run) -> Compared:
    """What the run's `comparison.json` holds, as far as it is of the data, settings and code that are there.

    Raises:
        UserError: it is not what `compare` writes.
    """
    path = run.root / "comparison.json"
    if not path.is_file():
        return Compared()
    found = read_json(path, run.command("compare"))
    holding, dropped = results_holding(run, path)
    device = str(found.get("device", ""))
    command = run.command("compare")
    return Compared(
        device=device,
        protocols={name: _judged(one, found.get("seeds"), f"{path}, {name}", command) for name, one in holding.items()},
        dropped=[f"{said}; run again: {command}" for said in dropped],
    )


def published_for(run: Run) -> dict[str, Judged]:
    """What the project publishes of the run's dataset, by protocol; nothing where the run's data are others."""
    path = PUBLISHED_RESULTS / f"{run.root.name}.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    if found["counts"] != counts_of(run):
        return {}
    return {
        name: _judged(found["protocols"][name], found["seeds"], f"{path}, {name}")
        for name in PROTOCOLS
        if name in found["protocols"]
    }


def _judged(value: Mapping[str, Any], seeds: Any, where: str, command: str = "") -> Judged:
    """A protocol's part of the file; the differences of single metrics are left out."""
    chosen = {
        "seeds": value.get("seeds", seeds),
        **{key: value[key] for key in ("models", "verdict", "splits") if key in value},
    }
    return validated(Judged, chosen, where, command)


def counts_of(run: Run) -> dict[str, int]:
    """How many ratings, users and movies the run's tables have.

    Raises:
        UserError: a table is missing.
    """
    paths = {name: run.tables / f"{name}.parquet" for name in compare_seeds.COUNTED}
    for path in paths.values():
        if not path.is_file():
            raise UserError(f"{path} is missing; run: {run.command('fetch')}")
    return {name: pq.ParquetFile(path).metadata.num_rows for name, path in paths.items()}


def _paper(path: Path | None) -> Paper | None:
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path} is missing; run: python -m marquee paper --out {path} --data FOLDER")
        return Paper(rows=read_rows(path), published=PUBLISHED, is_own=False)
    if not PAPER.is_file():
        return None
    found = read_json(PAPER)
    return Paper(rows=found["results"], published=found["published"], is_own=True)
