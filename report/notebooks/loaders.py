"""`merlin.dataloader` at work on Parquet that `prepare` wrote, for PyTorch and for TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import core.gpu  # noqa: F401

import numpy as np
import pandas as pd
from merlin.io import Dataset

from core.columns import LABEL
from core.run_folder import Run
from workflows.splits.base import split_files

SHOWN = 4  # values of a column


@dataclass(frozen=True)
class Framework:
    """A library that `merlin.dataloader` has a module for: its name, and how a tensor becomes an array."""

    title: str
    to_numpy: Callable[[Any], np.ndarray]


FRAMEWORKS = {  # by the name of the module
    "torch": Framework("PyTorch", lambda tensor: tensor.cpu().numpy()),
    "tensorflow": Framework("TensorFlow", lambda tensor: tensor.numpy()),
}


def first_batches(run: Run, split: str, batch_size: int) -> pd.DataFrame:
    """The first batch of the training rows, as each framework that is installed gets it from the same files.

    Returns:
        A row for each framework and column: the dtype, shape and device of its tensor, and its first values.
    """
    installed = {name: one.title for name, one in FRAMEWORKS.items() if find_spec(name)}
    return pd.concat({title: _first_batch(name, run, split, batch_size) for name, title in installed.items()})


def _first_batch(framework: str, run: Run, split: str, batch_size: int) -> pd.DataFrame:
    files = [str(path.absolute()) for path in split_files(run.features_of(split), "train")]
    module = import_module(f"merlin.dataloader.{framework}")
    with module.Loader(Dataset(files, engine="parquet"), batch_size, shuffle=False) as loader:
        inputs, label = loader.peek()
    return pd.DataFrame(
        {name: _about(tensor, FRAMEWORKS[framework]) for name, tensor in {**inputs, LABEL: label}.items()}
    ).T


def _about(tensor: Any, framework: Framework) -> dict[str, str]:
    """What a tensor of either framework is, in words."""
    values = framework.to_numpy(tensor)
    first = ", ".join(f"{value:g}" if value < 1e6 else str(value) for value in values[:SHOWN].tolist())
    return {
        "dtype": values.dtype.name,
        "shape": str(tuple(tensor.shape)),
        "device": str(tensor.device).rpartition("device:")[2].lower(),
        "first values": f"{first}, ...",
    }
