"""A repository that a test may change, and what the tests of the exported files share."""

import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from core.errors import UserError
from core.run_folder import Run
from ensemble.export.export import export
from ensemble.export.retrieval import DIM, Query, Retrieval, Tower
from models.cut import Cut
from tests.names import COMPARED
from workflows.features.vocabulary import FIRST_INDEX

PROTOCOL = "leave-one-out"


@pytest.fixture
def run(exported, tmp_path) -> Run:
    """A copy of the exported run, to be changed."""
    shutil.copytree(exported.root, tmp_path / exported.root.name)
    return Run(tmp_path / exported.root.name)


def state(run: Run) -> dict[str, int]:
    """Every file of the repository, and when it was last written."""
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in run.repository.rglob("*")}


def refusal(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        export(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def other_than(name: str) -> str:
    return COMPARED[1 - COMPARED.index(name)]


def fixed_recall(recall: float) -> Callable:
    """A `fit_retrieval` that trains nothing and has this recall."""

    def fit(cut: Cut, users: range, seed: int, **_: object) -> Retrieval:
        rows = torch.rand(3, cut.users.shape[1], generator=torch.Generator().manual_seed(0))
        vectors = np.zeros((len(cut.vectors) - FIRST_INDEX, DIM), np.float32)
        return Retrieval(Query(Tower(rows)), vectors, recall)

    return fit


def vocabulary(run: Run, kind: str) -> pd.DataFrame:
    return pd.read_parquet(run.features / PROTOCOL / "vocabulary" / f"{kind}_id.parquet")
