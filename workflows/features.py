"""Canonical tables to features: the NVTabular graphs, the side tables, the Merlin schema.

An interaction stays narrow: (user index, movie index, label, rating, timestamp, fold). What belongs to a movie or to a
user lives once in a side table and is gathered by index, in training, evaluation and serving alike.

Indices. 0, 1 and 2 are Categorify's padding, null and out-of-vocabulary codes. From 3 on come the ids that are in the
vocabulary (at least `freq_threshold` training ratings), the most frequent first, then the rest of the catalogue: rated
movies, then those never rated. So an index names one movie, and an index after the vocabulary's last has no embedding
of its own: it takes that of code 2.

Folds. A statistic used as a feature must not contain the row's own label. Every training row has a random fold, and
statistics are kept once per fold, computed without it, and once over all training rows (fold `FOLDS`), which is what
validation, test and serving use.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import nvtabular as nvt
import pandas as pd
import pyarrow.parquet as pq
from merlin.core.dispatch import HAS_GPU
from merlin.io import Dataset
from merlin.schema import ColumnSchema, Schema, Tags
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata
from nvtabular import ops

from marquee.columns import (
    AGE,
    CONTINUOUS,
    FOLD,
    GENDER,
    GENRES,
    LABEL,
    LATER,
    MOVIE_ID,
    MOVIE_INDEX,
    NEGATIVES,
    OCCUPATION,
    RATING,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    USER_DETAILS,
    USER_ID,
    USER_INDEX,
    YEAR,
)
from marquee.errors import UserError
from marquee.manifest import fingerprint, is_current, new_folder, seal, source_digest, verify, write_json
from marquee.runs import DEFAULT_SEED, PROTOCOLS, Run
from workflows.negatives import NegativeSampler
from workflows.splits import Split, later_ratings, leave_one_out, random_split

LIKED_ABOVE = 3.0  # stars
CANDIDATE_NEGATIVES = 99
FOLDS = 5
PREPARE_STEPS = ("split", "vocabularies", "transform", "side tables", "candidates")
PRIOR_RATINGS = 10.0  # how many ratings at the global mean a statistic starts from
NULL = 1
OUT_OF_VOCABULARY = 2
FIRST_INDEX = 3
AGE_GROUPS = [18, 25, 35, 45, 50, 56]  # MovieLens-1M's


@dataclass(frozen=True)
class PrepareSettings:
    """What `prepare` can be told. `freq_threshold` is in training ratings."""

    freq_threshold: int = 1
    seed: int = DEFAULT_SEED


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one kind in the order of their indices, which start at `FIRST_INDEX`.

    Attributes:
        ids: int64 [ids].
        counts: int64 [ids], training ratings of each.
        in_vocabulary: how many of them, the first, have an embedding of their own.
        rated: how many of them, the first, have a rating in any split.
    """

    ids: np.ndarray
    counts: np.ndarray
    in_vocabulary: int
    rated: int

    @property
    def embeddings(self) -> int:
        """Rows of the embedding table, the reserved ones included."""
        return FIRST_INDEX + self.in_vocabulary

    @property
    def rows(self) -> int:
        """Rows of the side table, the reserved ones included."""
        return FIRST_INDEX + len(self.ids)

    def frame(self, name: str) -> pd.DataFrame:
        known = np.arange(len(self.ids)) < self.in_vocabulary
        index = np.arange(FIRST_INDEX, self.rows, dtype=np.int32)
        rated = np.arange(len(self.ids)) < self.rated
        return pd.DataFrame({name: self.ids, "index": index, "ratings": self.counts, "known": known, "rated": rated})


# Named functions, as LambdaOp's are saved by name: the fixed loaders of Merlin refuse lambdas.
def is_liked(rating: Any) -> Any:
    """1 where the stars are above 3, else 0, in float32."""
    return (rating > LIKED_ABOVE).astype("float32")


def is_interaction(rating: Any) -> Any:
    """1 for every rating, whatever its stars, in float32."""
    return (rating > 0).astype("float32")


def unknown_to_null(year: Any) -> Any:
    """Years in float32, the 0 that stands for unknown as null."""
    return year.astype("float32").where(year > 0)


def prepare(run: Run, protocol: str, settings: PrepareSettings, advance: Callable[[float, str], None]) -> bool:
    """Writes `features/<protocol>/`, whole or not at all; does nothing where it is there and up to date.

    Args:
        run: where `tables/` is read and `features/` written.
        protocol: `leave-one-out` or `random-split`.
        advance: told 1 and its name as each of `PREPARE_STEPS` is done.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: no tables, or an empty split.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    tables_manifest = verify(run.tables, "fetch")
    made_from = fingerprint(
        tables=tables_manifest["fingerprint"], settings=asdict(settings), code=source_digest("workflows")
    )
    target = run.features / protocol
    if is_current(target, made_from):
        return False
    ratings = pq.read_table(run.tables / "ratings.parquet").to_pandas()
    movies = pd.read_parquet(run.tables / "movies.parquet")
    users = pd.read_parquet(run.tables / "users.parquet")
    streams = np.random.SeedSequence([settings.seed, PROTOCOLS.index(protocol)]).spawn(3)
    split_rng, fold_rng, candidate_rng = map(np.random.default_rng, streams)
    split = _split(protocol, ratings, split_rng).check(f"{run.root.name}, {protocol}")
    frames = {part: ratings.iloc[getattr(split, part)].reset_index(drop=True) for part in ("train", "valid", "test")}
    for part, frame in frames.items():
        frame[LATER] = 0 if part != "train" else later_ratings(frame[RAW_USER].to_numpy(), frame[TIMESTAMP].to_numpy())
        frame[FOLD] = fold_rng.integers(0, FOLDS, len(frame)).astype("int8") if part == "train" else np.int8(FOLDS)
    with new_folder(
        target, made_from, protocol=protocol, dataset=tables_manifest["dataset"], seed=settings.seed
    ) as out:
        advance(1, "split")
        vocabularies = _fit_vocabularies(out, frames["train"], ratings, movies, users, settings.freq_threshold)
        advance(1, "vocabularies")
        label = is_interaction if protocol == "leave-one-out" else is_liked
        _transform(out, frames, vocabularies, label)
        advance(1, "transform")
        cardinalities, names = _write_side_tables(out, movies, users, vocabularies)
        _write_schema(out, vocabularies, cardinalities, names)
        advance(1, "side tables")
        if protocol == "leave-one-out":
            _write_candidates(out, vocabularies[MOVIE_ID].rated, candidate_rng)
        facts = {
            name: {"embeddings": v.embeddings, "rows": v.rows, "rated": v.rated} for name, v in vocabularies.items()
        }
        write_json(out / "features.json", {**facts, "continuous": names, "folds": FOLDS, "seed": settings.seed})
        shutil.rmtree(out / "categories")
        advance(1, "candidates")
    return True


def _split(protocol: str, ratings: pd.DataFrame, rng: np.random.Generator) -> Split:
    if protocol == "leave-one-out":
        return leave_one_out(ratings[RAW_USER].to_numpy(), ratings[TIMESTAMP].to_numpy())
    return random_split(len(ratings), rng)


def _fit_vocabularies(
    out: Path, train: pd.DataFrame, ratings: pd.DataFrame, movies: pd.DataFrame, users: pd.DataFrame, threshold: int
) -> dict[str, Vocabulary]:
    """Categorify finds the frequent ids of the training rows; the rest of the catalogue follows them."""
    categories = out / "categories"
    graph = [RAW_USER, RAW_MOVIE] >> ops.Categorify(freq_threshold=threshold, out_path=str(categories))
    nvt.Workflow(graph).fit(Dataset(train[[RAW_USER, RAW_MOVIE]]))
    found = {}
    for raw, name, everything in ((RAW_USER, USER_ID, users[RAW_USER]), (RAW_MOVIE, MOVIE_ID, movies[RAW_MOVIE])):
        frequent = pd.read_parquet(categories / "categories" / f"unique.{raw}.parquet")
        # Ties in the order of the ids, so that the order does not depend on partitions or on the device.
        frequent = frequent.sort_values([f"{raw}_size", raw], ascending=[False, True])
        counts = train[raw].value_counts()
        ids = frequent[raw].to_numpy(np.int64)
        if not len(ids):
            raise UserError(f"no {name} has {threshold} training ratings; lower --freq-threshold")
        rated = np.setdiff1d(ratings[raw].to_numpy(np.int64), ids)
        never = np.setdiff1d(everything.to_numpy(np.int64), np.concatenate([ids, rated]))
        everyone = np.concatenate([ids, rated, never])
        of_all = counts.reindex(everyone).fillna(0).to_numpy(np.int64)
        found[name] = Vocabulary(everyone, of_all, len(ids), len(ids) + len(rated))
        (out / "vocabulary").mkdir(exist_ok=True)
        found[name].frame(name).to_parquet(out / "vocabulary" / f"{name}.parquet", index=False)
    return found


def _transform(
    out: Path, frames: dict[str, pd.DataFrame], vocabularies: dict[str, Vocabulary], label: Callable[[Any], Any]
) -> None:
    """Runs the interactions' workflow over the three splits, loaded from disk: what is saved is what was applied."""
    graph = [FOLD, LATER, RATING, TIMESTAMP]
    for raw, name, index in ((RAW_USER, USER_ID, USER_INDEX), (RAW_MOVIE, MOVIE_ID, MOVIE_INDEX)):
        vocabulary = {raw: pd.Series(vocabularies[name].ids)}
        categorify = ops.Categorify(vocabs=vocabulary, out_path=str(out / "categories" / name), dtype=np.int32)
        graph = graph + ([raw] >> categorify >> ops.Rename(name=index))
    tags = [Tags.BINARY_CLASSIFICATION, Tags.TARGET]
    graph = graph + ([RATING] >> ops.LambdaOp(label) >> ops.Rename(name=LABEL) >> ops.AddMetadata(tags=tags))
    _save_workflow(nvt.Workflow(graph).fit(Dataset(frames["train"])), out / "workflow" / "interactions")
    workflow = load_workflow(out / "workflow" / "interactions")
    for part, frame in frames.items():
        workflow.transform(Dataset(frame)).to_parquet(str(out / part), output_files=1)
        for extra in ("_file_list.txt", "_metadata.json"):  # they name absolute paths of this machine
            (out / part / extra).unlink(missing_ok=True)


def _save_workflow(workflow: nvt.Workflow, folder: Path) -> None:
    workflow.save(str(folder))
    seal(folder, fingerprint(workflow=folder.name))


def load_workflow(folder: Path) -> nvt.Workflow:
    """Loads one of a run's own workflows, after its manifest is verified.

    `Workflow.load` of NVTabular 23.8 unpickles (CVE-2025-33214), so nothing but a run's own folder may come here, and
    serving never does.

    Raises:
        UserError: a file is missing, changed, or not listed.
    """
    verify(folder, "prepare")
    return nvt.Workflow.load(str(folder))


# -- side tables -------------------------------------------------------------------------------------------------------


def _write_side_tables(
    out: Path, movies: pd.DataFrame, users: pd.DataFrame, vocabularies: dict[str, Vocabulary]
) -> tuple[dict[str, int], list[str]]:
    """Writes the four side tables; returns the cardinality of each user detail and the continuous features' names."""
    (out / "side").mkdir()
    genres = _movie_features(out, movies, vocabularies[MOVIE_ID])
    cardinalities = _user_features(out, users, vocabularies[USER_ID])
    train = Dataset(str(out / "train"), engine="parquet").to_ddf()
    names = [*genres, YEAR]
    for kind, index, vocabulary in (("movie", MOVIE_INDEX, MOVIE_ID), ("user", USER_INDEX, USER_ID)):
        grouped = train.groupby([index, FOLD]).agg({RATING: ["count", "sum"], TIMESTAMP: "sum"}).compute()
        grouped = (grouped.to_pandas() if HAS_GPU else grouped).reset_index()
        grouped.columns = [index, FOLD, "count", "stars", "seconds"]
        table = fold_statistics(grouped, index, vocabularies[vocabulary].rows)
        columns = [f"{kind}_popularity", f"{kind}_mean_rating", f"{kind}_mean_time"]
        flat = {name: table[:, :, i].ravel() for i, name in enumerate(columns)}
        fold = np.repeat(np.arange(FOLDS + 1, dtype=np.int8), table.shape[1])
        entity = np.tile(np.arange(table.shape[1], dtype=np.int32), FOLDS + 1)
        frame = pd.DataFrame({FOLD: fold, index: entity, **flat})
        frame.to_parquet(out / "side" / f"{kind}_statistics.parquet", index=False)
        names += columns
    return cardinalities, names


def fold_statistics(grouped: pd.DataFrame, index: str, rows: int) -> np.ndarray:
    """Popularity, mean rating and mean time per entity, once without each fold, and over all training rows.

    Args:
        grouped: one row per (entity, fold): the `count` of its training ratings, their sums of `stars` and `seconds`.
        index: the name of the entity's column.
        rows: how many entities, the reserved indices included.

    Returns:
        float32 [FOLDS + 1, rows, 3]: the logarithm of 1 + ratings, scaled up to all folds; the mean stars; the mean
        timestamp. The means are shrunk to the global ones by `PRIOR_RATINGS` ratings, and each table is standardised by
        its own rated entities, so that not even the scale tells of what was left out.
    """
    by_fold = np.zeros((3, FOLDS, rows))
    place = grouped[FOLD].to_numpy(), grouped[index].to_numpy()
    for values, name in zip(by_fold, ("count", "stars", "seconds")):
        values[place] = grouped[name]
    everything = by_fold.sum(axis=1, keepdims=True)
    counts, stars, seconds = np.concatenate([everything - by_fold, everything], axis=1)
    used = counts.sum(axis=1, keepdims=True)

    def shrunk_mean(totals: np.ndarray) -> np.ndarray:
        global_mean = totals.sum(axis=1, keepdims=True) / np.maximum(used, 1)
        return (totals + PRIOR_RATINGS * global_mean) / (counts + PRIOR_RATINGS)

    popularity = np.log1p(counts * used[-1] / np.maximum(used, 1))
    table = np.stack([popularity, shrunk_mean(stars), shrunk_mean(seconds)], axis=2)
    rated = (counts > 0)[:, :, None]
    entities = np.maximum(rated.sum(axis=1, keepdims=True), 1)
    table = table - np.where(rated, table, 0).sum(axis=1, keepdims=True) / entities
    spread = np.sqrt(np.where(rated, table**2, 0).sum(axis=1, keepdims=True) / entities)
    return (table / np.where(spread > 0, spread, 1)).astype(np.float32)


def _movie_features(out: Path, movies: pd.DataFrame, vocabulary: Vocabulary) -> list[str]:
    """Genres as multi-hot columns and the standardised year (0 where unknown), a row per movie index.

    Returns:
        The names of the genre columns.
    """
    graph = [YEAR] >> ops.LambdaOp(unknown_to_null) >> ops.Normalize() >> ops.FillMissing(0)
    frame = movies.set_index(RAW_MOVIE).loc[vocabulary.ids, [GENRES, YEAR]].reset_index(drop=True)
    frame[GENRES] = frame[GENRES].map(list)
    has_genres = bool(frame[GENRES].map(len).any())  # Categorify cannot tell the type of nothing but empty lists
    if has_genres:
        graph = graph + ([GENRES] >> ops.Categorify(out_path=str(out / "categories" / "movies")))
    result = _fit_and_save(graph, frame if has_genres else frame[[YEAR]], out / "workflow" / "movies")
    table = pd.DataFrame({MOVIE_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})
    names: list[str] = []
    if has_genres:
        found = pd.read_parquet(out / "categories" / "movies" / "categories" / f"unique.{GENRES}.parquet")[GENRES]
        codes = np.concatenate([np.asarray(row, np.int64) for row in result[GENRES]])
        rows = np.repeat(np.arange(len(result)), [len(row) for row in result[GENRES]])
        hot = np.zeros((vocabulary.rows, FIRST_INDEX + len(found)), np.float32)
        hot[FIRST_INDEX + rows, codes] = 1
        order = np.argsort(found.to_numpy(str))  # by name: Categorify's order of ties is not the same on every device
        names = [f"genre_{found.iloc[i]}" for i in order]
        table = pd.concat([table, pd.DataFrame(hot[:, FIRST_INDEX + order], columns=names)], axis=1)
    year = np.zeros(vocabulary.rows, np.float32)
    year[FIRST_INDEX:] = result[YEAR]
    table[YEAR] = year
    table.to_parquet(out / "side" / "movie_features.parquet", index=False)
    return names


def _user_features(out: Path, users: pd.DataFrame, vocabulary: Vocabulary) -> dict[str, int]:
    """Categorify's codes of gender, age group and occupation where the dataset has them, a row per user index.

    Returns:
        How many codes each of them has, the reserved ones included.
    """
    table = pd.DataFrame({USER_INDEX: np.arange(vocabulary.rows, dtype=np.int32)})
    details = [name for name in USER_DETAILS if name in users.columns]
    cardinalities = {}
    if details:
        frame = users.set_index(RAW_USER).loc[vocabulary.ids, details].reset_index(drop=True)
        plain = [name for name in (GENDER, OCCUPATION) if name in details]
        graph = plain + ([AGE] >> ops.Bucketize({AGE: AGE_GROUPS}) if AGE in details else [])
        graph = graph >> ops.Categorify(out_path=str(out / "categories" / "users"))
        result = _fit_and_save(graph, frame, out / "workflow" / "users")
        for name in details:
            codes = np.full(vocabulary.rows, OUT_OF_VOCABULARY, np.int32)
            codes[FIRST_INDEX:] = np.where(frame[name].isna(), NULL, result[name])  # Bucketize takes no age for old age
            table[name] = codes
            known = pd.read_parquet(out / "categories" / "users" / "categories" / f"unique.{name}.parquet")
            cardinalities[name] = FIRST_INDEX + len(known)
    table.to_parquet(out / "side" / "user_features.parquet", index=False)
    return cardinalities


def _fit_and_save(graph: Any, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Fits a side table's workflow, saves it, and gives what it makes of the table, in pandas."""
    workflow = nvt.Workflow(graph)
    workflow.fit(Dataset(frame))
    _save_workflow(workflow, folder)
    result = load_workflow(folder).transform(Dataset(frame)).to_ddf().compute()
    return (result.to_pandas() if HAS_GPU else result).reset_index(drop=True)


def _write_schema(
    out: Path, vocabularies: dict[str, Vocabulary], cardinalities: dict[str, int], continuous: list[str]
) -> None:
    """The model's inputs and target as a Merlin schema: the side tables' columns once gathered."""

    def categorical(name: str, rows: int, *tags: Tags) -> ColumnSchema:
        domain = {"min": 0, "max": rows - 1, "name": name}
        return ColumnSchema(name, dtype=np.int64, tags=[Tags.CATEGORICAL, *tags], properties={"domain": domain})

    columns = [
        categorical(USER_ID, vocabularies[USER_ID].embeddings, Tags.USER, Tags.USER_ID),
        categorical(MOVIE_ID, vocabularies[MOVIE_ID].embeddings, Tags.ITEM, Tags.ITEM_ID),
        *(categorical(name, rows, Tags.USER) for name, rows in cardinalities.items()),
        ColumnSchema(CONTINUOUS, dtype=np.float32, tags=[Tags.CONTINUOUS], dims=(None, len(continuous))),
        ColumnSchema(LABEL, dtype=np.float32, tags=[Tags.BINARY_CLASSIFICATION, Tags.TARGET]),
    ]
    (out / "schema").mkdir()
    TensorflowMetadata.from_merlin_schema(Schema(columns)).to_proto_text_file(str(out / "schema"))


def read_split(folder: Path, part: str, columns: list[str]) -> pd.DataFrame:
    """Columns of one split (`train`, `valid` or `test`) of a protocol's features."""
    files = sorted((folder / part).glob("*.parquet"))
    return pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)


def load_schema(folder: Path) -> Schema:
    """The model's schema that `prepare` wrote into `folder` (a protocol's features)."""
    return TensorflowMetadata.from_proto_text_file(str(folder / "schema")).to_merlin_schema()


def _write_candidates(out: Path, movies: int, rng: np.random.Generator) -> None:
    """Leave-one-out's questions: per user the held-out movie and 99 movies that the user has rated in no split.

    Drawn once, from the seed, so that every model answers the same questions.
    """
    parts = {part: read_split(out, part, [USER_INDEX, MOVIE_INDEX]) for part in ("train", "valid", "test")}
    seen = pd.concat(parts.values())
    sampler = NegativeSampler(seen[USER_INDEX].to_numpy(), seen[MOVIE_INDEX].to_numpy(), FIRST_INDEX, movies)
    for part in ("valid", "test"):
        frame = parts[part].sort_values(USER_INDEX, ignore_index=True)
        negatives = sampler.draw_distinct(frame[USER_INDEX].to_numpy(), CANDIDATE_NEGATIVES, rng).astype(np.int32)
        frame[NEGATIVES] = list(negatives)
        frame.to_parquet(out / f"candidates-{part}.parquet", index=False)
