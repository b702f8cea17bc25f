"""The Merlin schema of what a model reads: written by `prepare`, read when a model is built."""

from pathlib import Path

import core.gpu  # noqa: F401

import numpy as np
from merlin.schema import ColumnSchema, Schema, Tags
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

from core.columns import CONTINUOUS, LABEL, MOVIE_ID, USER_ID


def model_schema(embeddings: dict[str, int], cardinalities: dict[str, int], continuous: int) -> Schema:
    """The model's inputs and target: the side tables' columns once gathered.

    Args:
        embeddings: rows of the embedding table of `USER_ID` and of `MOVIE_ID`.
        cardinalities: codes of each user detail.
        continuous: how many continuous features there are.
    """

    def categorical(name: str, rows: int, *tags: Tags) -> ColumnSchema:
        domain = {"min": 0, "max": rows - 1, "name": name}
        return ColumnSchema(name, dtype=np.int64, tags=[Tags.CATEGORICAL, *tags], properties={"domain": domain})

    return Schema(
        [
            categorical(USER_ID, embeddings[USER_ID], Tags.USER, Tags.USER_ID),
            categorical(MOVIE_ID, embeddings[MOVIE_ID], Tags.ITEM, Tags.ITEM_ID),
            *(categorical(name, rows, Tags.USER) for name, rows in cardinalities.items()),
            ColumnSchema(CONTINUOUS, dtype=np.float32, tags=[Tags.CONTINUOUS], dims=(None, continuous)),
            ColumnSchema(LABEL, dtype=np.float32, tags=[Tags.BINARY_CLASSIFICATION, Tags.TARGET]),
        ]
    )


def write_schema(folder: Path, schema: Schema) -> None:
    """Writes a schema into `folder/schema/`."""
    (folder / "schema").mkdir()
    TensorflowMetadata.from_merlin_schema(schema).to_proto_text_file(str(folder / "schema"))


def load_schema(folder: Path) -> Schema:
    """The model's schema that `prepare` wrote into `folder` (the features of a split)."""
    return TensorflowMetadata.from_proto_text_file(str(folder / "schema")).to_merlin_schema()
