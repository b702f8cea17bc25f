"""Interactions: the ratings of each part, with their indices, label and fold, as NVTabular writes them.

A row stays narrow: (user index, movie index, label, rating, timestamp, fold, later, not_before). What belongs to a
movie or to a user lives once in a side table.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import core.gpu  # noqa: F401

import numpy as np
import nvtabular as nvt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.callbacks import Callback
from merlin.io import Dataset
from merlin.schema import Schema, Tags
from nvtabular import ops

from core.columns import (
    FOLD,
    LABEL,
    LATER,
    MOVIE_ID,
    MOVIE_INDEX,
    NOT_BEFORE,
    RATING,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    USER_ID,
    USER_INDEX,
)
from workflows.features.saved import load_workflow, save_workflow
from workflows.features.vocabulary import FOLDS, Vocabulary
from workflows.splits.base import PARTS, Split

ROWS_AT_ONCE = 1 << 20  # rows of a Parquet row group, which is what is in memory at a time
CATEGORY_PATH = "cat_path"  # the property in which Categorify says where it wrote


class _PartWriter:
    """Writes the ratings of one part as they come, in row groups of at least `ROWS_AT_ONCE` rows."""

    def __init__(self, path: Path):
        self._path = path
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_PartWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._writer:
            self._writer.close()

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes what has not been written yet."""
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._path.parent.mkdir(parents=True)
            self._writer = pq.ParquetWriter(self._path, rows.schema, compression="lz4")
        self._writer.write_table(rows, row_group_size=2 * ROWS_AT_ONCE)
        self._waiting.clear()


def write_parts(
    out: Path, ratings: pq.ParquetFile, split: Split, counts: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Writes the ratings of each part into `split/<part>/`, with what only the whole table can say: counts, the fold.

    Args:
        counts: `LATER` and `NOT_BEFORE`, int32 [ratings] each.
        rng: draws the folds of the training rows; the others have fold `FOLDS`.
    """
    with ExitStack() as stack:
        writers = {part: stack.enter_context(_PartWriter(_part_file(out, part))) for part in PARTS}
        start = 0
        for batch in ratings.iter_batches(ROWS_AT_ONCE):
            here = slice(start, start + len(batch))
            start += len(batch)
            for number, part in enumerate(PARTS):
                chosen = split.part[here] == number
                rows = pa.Table.from_batches([batch]).filter(pa.array(chosen))
                fold = rng.integers(0, FOLDS, len(rows)) if part == "train" else np.full(len(rows), FOLDS)
                rows = rows.append_column(FOLD, pa.array(fold.astype(np.int8)))
                for name, count in counts.items():
                    rows = rows.append_column(name, pa.array(count[here][chosen]))
                writers[part].add(rows)
        for writer in writers.values():
            writer.flush()


def _part_file(out: Path, part: str) -> Path:
    return out / "split" / part / "ratings.parquet"


def transform(
    out: Path, vocabularies: dict[str, Vocabulary], label: Callable[[Any], Any], advance: Callable[[float], None]
) -> float:
    """Runs the interactions' workflow over the three parts, loaded from disk: what is saved is what was applied.

    Args:
        out: where `split/` is read, and `train/`, `valid/`, `test/` and `workflow/interactions/` written.
        label: what a rating's stars become as the target.
        advance: is given the share of the work that was done since the last call.

    Returns:
        The share that was reported to `advance`: none of it where a cluster does the work.
    """
    # A Dask partition for each row group.
    datasets = {
        part: Dataset(str(_part_file(out, part).absolute()), engine="parquet", row_groups_per_part=1) for part in PARTS
    }
    graph = _graph(vocabularies, label, (out / "categories").absolute())
    save_workflow(nvt.Workflow(graph).fit(datasets["valid"]), out / "workflow" / "interactions")
    workflow = load_workflow(out / "workflow" / "interactions")
    reported = 0.0
    partitions = sum(dataset.npartitions for dataset in datasets.values())
    for part, dataset in datasets.items():
        transformed = workflow.transform(dataset)
        transformed.schema = _without_paths(transformed.schema)
        with _Ticks(lambda: advance(1 / partitions)) as ticks:
            # A file for each partition: a worker that dies leaves no half-written one behind.
            transformed.to_parquet(str((out / part).absolute()), output_files=dataset.npartitions)
        reported += ticks.count / partitions
        for extra in ("_file_list.txt", "_metadata.json"):  # they name absolute paths of this machine
            (out / part / extra).unlink(missing_ok=True)
    return reported


def _without_paths(schema: Schema) -> Schema:
    """The schema without the places of Categorify's files, which are in a folder that does not stay."""
    return Schema(
        [
            replace(column, properties={name: one for name, one in column.properties.items() if name != CATEGORY_PATH})
            for column in schema
        ]
    )


def _graph(vocabularies: dict[str, Vocabulary], label: Callable[[Any], Any], categories: Path) -> Any:
    """Ids to indices, the label beside the stars, and the rest as it is."""
    graph = [FOLD, LATER, NOT_BEFORE, RATING, TIMESTAMP]
    for raw, name, index in ((RAW_USER, USER_ID, USER_INDEX), (RAW_MOVIE, MOVIE_ID, MOVIE_INDEX)):
        ids = {raw: pd.Series(vocabularies[name].ids)}
        graph = graph + (
            [raw]
            >> ops.Categorify(vocabs=ids, out_path=str(categories / name), dtype=np.int32)
            >> ops.Rename(name=index)
        )
    tags = [Tags.BINARY_CLASSIFICATION, Tags.TARGET]
    return graph + ([RATING] >> ops.LambdaOp(label) >> ops.Rename(name=LABEL) >> ops.AddMetadata(tags=tags))


class _Ticks(Callback):
    """Reports every partition that Dask has written, where it works in this process."""

    def __init__(self, tick: Callable[[], None]):
        super().__init__()
        self._tick = tick
        self.count = 0

    def _posttask(self, key: Any, *_: Any) -> None:
        # The last task of all parts has a name alone, not a tuple.
        if isinstance(key, tuple) and str(key[0]).startswith("write-processed"):
            self.count += 1
            self._tick()
