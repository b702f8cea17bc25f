"""Canonical tables to features: the NVTabular graphs, the side tables, the Merlin schema.

An interaction stays narrow: (user index, movie index, label, rating, timestamp, fold). What belongs to a movie or to a
user lives once in a side table and is gathered by index, in training, evaluation and serving alike.

Indices. 0, 1 and 2 are Categorify's padding, null and out-of-vocabulary codes. From 3 on come the ids that are in the
vocabulary (at least `freq_threshold` training ratings), the most frequent first, then the rest of the catalogue: rated
movies, then those never rated. So an index names one movie, and an index after the vocabulary's last has no embedding
of its own: it takes that of code 2.

Folds. Every training row has a random fold, whose statistics leave it out: see `workflows/side_tables.py`.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import nvtabular as nvt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dask.callbacks import Callback
from merlin.io import Dataset
from merlin.schema import ColumnSchema, Schema, Tags
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata
from nvtabular import ops

from core.artifacts import code_digest, fingerprint, is_current, new_folder, verify
from core.columns import (
    CONTINUOUS,
    FOLD,
    LABEL,
    LATER,
    MOVIE_ID,
    MOVIE_INDEX,
    NEGATIVES,
    RATING,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    USER_ID,
    USER_INDEX,
)
from core.errors import UserError
from core.json_files import write_json
from core.run_folder import DEFAULT_SEED, PROTOCOLS, Run
from workflows.features.saved import load_workflow, save_workflow
from workflows.features.side_tables import write_side_tables
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, Vocabulary
from workflows.negatives import NegativeSampler
from workflows.splits.base import PARTS, TimeOrder, leave_one_out, random_split, read_split

LIKED_ABOVE = 3.0  # stars
CANDIDATE_NEGATIVES = 99
PREPARE_STEPS = ("split", "vocabularies", "transform", "side tables", "candidates")
ROWS_AT_ONCE = 1 << 20  # rows of a Parquet row group, which is what is in memory at a time


@dataclass(frozen=True)
class PrepareSettings:
    """What `prepare` can be told. `freq_threshold` is in training ratings."""

    freq_threshold: int = 1
    seed: int = DEFAULT_SEED


# Named functions, as LambdaOp's are saved by name: the fixed loaders of Merlin refuse lambdas.
def is_liked(rating: Any) -> Any:
    """1 where the stars are above 3, else 0, in float32."""
    return (rating > LIKED_ABOVE).astype("float32")


def is_interaction(rating: Any) -> Any:
    """1 for every rating, whatever its stars, in float32."""
    return (rating > 0).astype("float32")


def prepare(
    run: Run,
    protocol: str,
    settings: PrepareSettings,
    advance: Callable[[float, str], None],
    cluster: AbstractContextManager[Any] | None = None,
) -> bool:
    """Writes `features/<protocol>/`, whole or not at all; does nothing where it is there and up to date.

    Ratings pass through in row groups of `ROWS_AT_ONCE`; of all of them at once there are a few bytes each in memory.

    Args:
        run: where `tables/` is read and `features/` written.
        protocol: `leave-one-out` or `random-split`.
        advance: told how many of `PREPARE_STEPS` were done, in fractions, and the name of each as it ends.
        cluster: entered while NVTabular works, `workflows.cluster.dask_cluster` say; None for this process alone.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: no tables, or an empty split.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    tables_manifest = verify(run.tables, run.command("fetch"))
    made_from = fingerprint(
        tables=tables_manifest["fingerprint"],
        settings=asdict(settings),
        code=code_digest(
            ("workflows/features", "workflows/splits", "workflows/negatives.py"),
            ("nvtabular", "merlin-core", "numpy", "pandas", "pyarrow"),
        ),
    )
    target = run.features / protocol
    if is_current(target, made_from):
        return False
    movies = pd.read_parquet(run.tables / "movies.parquet")
    users = pd.read_parquet(run.tables / "users.parquet")
    ratings = pq.ParquetFile(run.tables / "ratings.parquet")
    streams = np.random.SeedSequence([settings.seed, PROTOCOLS.index(protocol)]).spawn(3)
    split_rng, fold_rng, candidate_rng = map(np.random.default_rng, streams)
    facts = {"protocol": protocol, "dataset": tables_manifest["dataset"], "seed": settings.seed}
    with new_folder(target, made_from, **facts) as out:
        _write_split(out, ratings, protocol, f"{run.root.name}, {protocol}", split_rng, fold_rng)
        advance(1, "split")
        label = is_interaction if protocol == "leave-one-out" else is_liked
        with cluster or nullcontext():
            vocabularies = _fit_vocabularies(out, ratings, movies, users, settings.freq_threshold)
            advance(1, "vocabularies")
            told = _transform(out, vocabularies, label, lambda share: advance(share, ""))
        advance(1 - told, "transform")
        cardinalities, names = write_side_tables(out, movies, users, vocabularies)
        _write_schema(out, vocabularies, cardinalities, names)
        advance(1, "side tables")
        if protocol == "leave-one-out":
            _write_candidates(out, vocabularies[MOVIE_ID].rated, candidate_rng)
        sizes = {
            name: {"embeddings": v.embeddings, "rows": v.rows, "rated": v.rated} for name, v in vocabularies.items()
        }
        write_json(out / "features.json", {**sizes, "movie_features": {"genres": [n for n in names if n.startswith("genre_")], "year": ["year"]}, "continuous": names, "folds": FOLDS, "seed": settings.seed})
        for scratch in ("split", "categories"):
            shutil.rmtree(out / scratch)
        advance(1, "candidates")
    return True


def _write_split(
    out: Path,
    ratings: pq.ParquetFile,
    protocol: str,
    what: str,
    split_rng: np.random.Generator,
    fold_rng: np.random.Generator,
) -> None:
    """The ratings of each part, in `split/<part>/`, with what only the whole table can tell: `later` and the fold."""
    user, timestamp = (_column(ratings, name) for name in (RAW_USER, TIMESTAMP))
    times = TimeOrder.of(user, timestamp)
    split = leave_one_out(times) if protocol == "leave-one-out" else random_split(len(user), split_rng)
    split.check(what)
    later = times.later()
    del user, timestamp, times
    writers: dict[str, pq.ParquetWriter] = {}
    waiting: dict[str, list[pa.Table]] = {part: [] for part in PARTS}

    def write(part: str) -> None:
        rows = pa.concat_tables(waiting[part])
        if part not in writers:
            (out / "split" / part).mkdir(parents=True)
            writers[part] = pq.ParquetWriter(out / "split" / part / "ratings.parquet", rows.schema, compression="lz4")
        writers[part].write_table(rows, row_group_size=2 * ROWS_AT_ONCE)
        waiting[part].clear()

    start = 0
    try:
        for batch in ratings.iter_batches(ROWS_AT_ONCE):
            here = slice(start, start + len(batch))
            start += len(batch)
            for number, part in enumerate(PARTS):
                chosen = split.part[here] == number
                rows = pa.Table.from_batches([batch]).filter(pa.array(chosen))
                trains = part == "train"
                fold = fold_rng.integers(0, FOLDS, len(rows)) if trains else np.full(len(rows), FOLDS)
                rows = rows.append_column(FOLD, pa.array(fold.astype(np.int8)))
                rows = rows.append_column(LATER, pa.array(later[here][chosen]))
                waiting[part].append(rows)
                if sum(map(len, waiting[part])) >= ROWS_AT_ONCE:
                    write(part)
        for part in PARTS:
            if waiting[part]:
                write(part)
    finally:
        for writer in writers.values():
            writer.close()


def _column(ratings: pq.ParquetFile, name: str) -> np.ndarray:
    return ratings.read([name])[name].to_numpy()


def _dataset(path: Path) -> Dataset:
    """A part as NVTabular reads it: a Dask partition for each row group."""
    return Dataset(str(path.resolve()), engine="parquet", row_groups_per_part=1)


def _fit_vocabularies(
    out: Path, ratings: pq.ParquetFile, movies: pd.DataFrame, users: pd.DataFrame, threshold: int
) -> dict[str, Vocabulary]:
    """Categorify finds the frequent ids of the training rows; the rest of the catalogue follows them."""
    train = out / "split" / "train" / "ratings.parquet"
    categories = (out / "categories").resolve()
    graph = [RAW_USER, RAW_MOVIE] >> ops.Categorify(freq_threshold=threshold, out_path=str(categories))
    nvt.Workflow(graph).fit(_dataset(train))
    found = {}
    (out / "vocabulary").mkdir()
    for raw, name, everything in ((RAW_USER, USER_ID, users[RAW_USER]), (RAW_MOVIE, MOVIE_ID, movies[RAW_MOVIE])):
        frequent = pd.read_parquet(categories / "categories" / f"unique.{raw}.parquet")
        # Ties in the order of the ids, so that the order does not depend on partitions or on the device.
        frequent = frequent.sort_values([f"{raw}_size", raw], ascending=[False, True])
        ids = frequent[raw].to_numpy(np.int64)
        if not len(ids):
            raise UserError(f"no {name} has {threshold} training ratings; lower --freq-threshold")
        counts = pd.Series(dict(zip(*_value_counts(pq.ParquetFile(train), raw))), dtype=np.int64)
        rated = np.setdiff1d(_value_counts(ratings, raw)[0], ids)
        never = np.setdiff1d(everything.to_numpy(np.int64), np.concatenate([ids, rated]))
        everyone = np.concatenate([ids, rated, never])
        of_all = counts.reindex(everyone).fillna(0).to_numpy(np.int64)
        found[name] = Vocabulary(everyone, of_all, len(ids), len(ids) + len(rated))
        found[name].frame(name).to_parquet(out / "vocabulary" / f"{name}.parquet", index=False)
    return found


def _value_counts(table: pq.ParquetFile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Each value of a column, int64, and how often it is there."""
    counts = pc.value_counts(table.read([name])[name])
    return counts.field("values").to_numpy().astype(np.int64), counts.field("counts").to_numpy()


def _transform(
    out: Path, vocabularies: dict[str, Vocabulary], label: Callable[[Any], Any], advance: Callable[[float], None]
) -> float:
    """Runs the interactions' workflow over the three parts, loaded from disk: what is saved is what was applied.

    Returns:
        The share of the work that was told as it was done: none of it where a cluster does it.
    """
    graph = [FOLD, LATER, RATING, TIMESTAMP]
    for raw, name, index in ((RAW_USER, USER_ID, USER_INDEX), (RAW_MOVIE, MOVIE_ID, MOVIE_INDEX)):
        vocabulary = {raw: pd.Series(vocabularies[name].ids)}
        categories = str((out / "categories" / name).resolve())
        graph = graph + (
            [raw] >> ops.Categorify(vocabs=vocabulary, out_path=categories, dtype=np.int32) >> ops.Rename(name=index)
        )
    tags = [Tags.BINARY_CLASSIFICATION, Tags.TARGET]
    graph = graph + ([RATING] >> ops.LambdaOp(label) >> ops.Rename(name=LABEL) >> ops.AddMetadata(tags=tags))
    datasets = {part: _dataset(out / "split" / part / "ratings.parquet") for part in PARTS}
    save_workflow(nvt.Workflow(graph).fit(datasets["valid"]), out / "workflow" / "interactions")
    workflow = load_workflow(out / "workflow" / "interactions")
    told = 0.0
    partitions = sum(dataset.npartitions for dataset in datasets.values())
    for part, dataset in datasets.items():
        transformed = workflow.transform(dataset)
        with _Ticks(lambda: advance(1 / partitions)) as ticks:
            # A file for each partition: a worker that dies takes no half-written one with it.
            transformed.to_parquet(str((out / part).resolve()), output_files=dataset.npartitions)
        told += ticks.count / partitions
        for extra in ("_file_list.txt", "_metadata.json"):  # they name absolute paths of this machine
            (out / part / extra).unlink(missing_ok=True)
    return told


class _Ticks(Callback):
    """Tells of every partition that Dask has written, where it works in this process."""

    def __init__(self, tick: Callable[[], None]):
        super().__init__()
        self._tick = tick
        self.count = 0

    def _posttask(self, key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and str(key[0]).startswith("write-processed"):  # the last, of all parts, is no tuple
            self.count += 1
            self._tick()


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


def _write_schema(
    out: Path, vocabularies: dict[str, Vocabulary], cardinalities: dict[str, int], continuous: list[str]
) -> None:
    embeddings = {name: vocabulary.embeddings for name, vocabulary in vocabularies.items()}
    schema = model_schema(embeddings, cardinalities, len(continuous))
    (out / "schema").mkdir()
    TensorflowMetadata.from_merlin_schema(schema).to_proto_text_file(str(out / "schema"))


def load_schema(folder: Path) -> Schema:
    """The model's schema that `prepare` wrote into `folder` (a protocol's features)."""
    return TensorflowMetadata.from_proto_text_file(str(folder / "schema")).to_merlin_schema()


def _write_candidates(out: Path, movies: int, rng: np.random.Generator) -> None:
    """Leave-one-out's questions: per user the held-out movie and 99 movies that the user has rated in no split.

    Drawn once, from the seed, so that every model answers the same questions.
    """
    parts = {part: _pairs(read_split(out, part, [USER_INDEX, MOVIE_INDEX])) for part in PARTS}
    user, movie = (np.concatenate(of) for of in zip(*parts.values()))
    sampler = NegativeSampler(user, movie, FIRST_INDEX, movies)
    for part in ("valid", "test"):
        user, movie = parts[part]
        order = np.argsort(user, kind="stable")
        negatives = sampler.draw_distinct(user[order], CANDIDATE_NEGATIVES, rng).astype(np.int32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), CANDIDATE_NEGATIVES)
        table = pa.table({USER_INDEX: user[order], MOVIE_INDEX: movie[order], NEGATIVES: lists})
        pq.write_table(table, out / f"candidates-{part}.parquet")


def _pairs(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return table[USER_INDEX].to_numpy(), table[MOVIE_INDEX].to_numpy()
