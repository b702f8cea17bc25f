"""The harness' Parquet as Merlin wants it described: one schema for its TensorFlow and its PyTorch models."""

from pathlib import Path
from typing import Any

import numpy as np
from merlin.io import Dataset
from merlin.schema import ColumnSchema, Schema, Tags


def schema(facts: dict[str, Any], model: str) -> Schema:
    """Ids with their domains, the label, and for DLRM the continuous columns."""

    def identifier(name: str, rows: int, *tags: Tags) -> ColumnSchema:
        domain = {"min": 0, "max": rows - 1, "name": name}
        return ColumnSchema(name, dtype=np.int64, tags=[Tags.CATEGORICAL, *tags], properties={"domain": domain})

    continuous = facts["continuous"] if model == "dlrm" else []
    return Schema(
        [
            identifier("user_id", facts["users"], Tags.USER, Tags.USER_ID),
            identifier("movie_id", facts["movies"], Tags.ITEM, Tags.ITEM_ID),
            *(ColumnSchema(name, dtype=np.float32, tags=[Tags.CONTINUOUS]) for name in continuous),
            ColumnSchema("label", dtype=np.float32, tags=[Tags.BINARY_CLASSIFICATION, Tags.TARGET]),
        ]
    )


def dataset(data: Path, facts: dict[str, Any], model: str) -> Dataset:
    """The training rows, in partitions of the size that Merlin's documentation advises."""
    files = sorted(str(path) for path in (data / model).glob("*.parquet"))
    return Dataset(files, engine="parquet", part_size="128MB", schema=schema(facts, model))
