"""Canonical tables to features: the split, vocabularies, interactions, side tables, candidates and the Merlin schema.

An interaction stays narrow. What belongs to a movie or to a user lives once in a side table and is gathered by index,
in training, evaluation and serving alike.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from core.artifacts import fingerprint, is_current, new_folder, verify
from core.columns import LATER, MOVIE_ID, NOT_BEFORE, RAW_USER, TIMESTAMP, USER_ID
from core.json_files import write_json
from core.plain_path import plain_path
from core.run_folder import DEFAULT_SEED, Run
from core.stage_code import stage_code
from workflows.features.candidates import write_candidates
from workflows.features.config import FEATURES_CONFIG, FeaturesConfig, VocabularySizes
from workflows.features.side_features.base import SIDE_FEATURES
from workflows.features.vocabulary import FOLDS, Vocabulary, fit_vocabularies
from workflows.splits.base import SPLITS, Splitter, TimeOrder

PREPARE_STEPS = ("split", "vocabularies", "transform", "side tables", "candidates")
Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class PrepareSettings:
    """The settings of `prepare`.

    Attributes:
        freq_threshold: in training ratings; users and movies with fewer share one embedding.
        seed: of everything that is drawn.
        same_second: whether a rating counts as given before another one of the same second that comes after it in the
            file.
    """

    freq_threshold: int = 1
    seed: int = DEFAULT_SEED
    same_second: bool = False


@dataclass(frozen=True)
class _Tables:
    """The canonical tables of a run."""

    ratings: pq.ParquetFile
    movies: pd.DataFrame
    users: pd.DataFrame

    @classmethod
    def of(cls, run: Run) -> "_Tables":
        return cls(
            pq.ParquetFile(run.tables / "ratings.parquet"),
            pd.read_parquet(run.tables / "movies.parquet"),
            pd.read_parquet(run.tables / "users.parquet"),
        )

    def ratings_column(self, name: str) -> np.ndarray:
        return self.ratings.read([name])[name].to_numpy()


def prepare(
    run: Run,
    split_name: str,
    settings: PrepareSettings,
    advance: Advance,
    cluster: AbstractContextManager[Any] | None = None,
) -> bool:
    """Writes `features/<split>/`, whole or not at all; does nothing where it is there and up to date.

    Ratings pass through in row groups; of all of them at once there are a few bytes each in memory.

    Args:
        run: where `tables/` is read and `features/` written.
        split_name: `leave-one-out`, `random-split` or another entry of `SPLITS`.
        advance: is given how many of `PREPARE_STEPS` were done, in fractions, and the name of each as it ends.
        cluster: entered while NVTabular works, such as `workflows.cluster.dask_cluster`; None for this process alone.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: an unknown split, no tables, or an empty part.
    """
    splitter = SPLITS.choose(split_name)
    tables_manifest = verify(run.tables, run.command("fetch"))
    made_from = _made_from(split_name, splitter, settings, tables_manifest["fingerprint"])
    target = run.features / split_name
    if is_current(target, made_from):
        return False
    details = {"protocol": split_name, "dataset": tables_manifest["dataset"], **asdict(settings)}
    with new_folder(target, made_from, **details) as made, plain_path(made) as out:
        tables = _Tables.of(run)
        streams = np.random.SeedSequence([settings.seed, splitter.stream]).spawn(3)
        split_rng, fold_rng, candidate_rng = map(np.random.default_rng, streams)
        what = f"{run.root.name}, {split_name}"
        _write_parts(out, tables, splitter, what, settings.same_second, (split_rng, fold_rng))
        advance(1, "split")
        with cluster or nullcontext():
            vocabularies = _write_interactions(out, tables, splitter, settings.freq_threshold, advance)
        _write_side_tables(out, tables, vocabularies, settings.seed)
        advance(1, "side tables")
        if splitter.candidates:
            write_candidates(out, vocabularies[MOVIE_ID].rated, candidate_rng)
        for scratch in ("split", "categories"):
            shutil.rmtree(out / scratch)
        advance(1, "candidates")
    return True


def _made_from(split_name: str, splitter: Splitter, settings: PrepareSettings, tables: str) -> str:
    """The fingerprint of everything that the features depend on."""
    code = stage_code(
        ("core/constants.py", "workflows/features", "workflows/splits", "workflows/negatives.py"),
        ("nvtabular", "merlin-core", "numpy", "pandas", "pyarrow"),
        SIDE_FEATURES,
        {split_name: splitter},
    )
    return fingerprint(tables=tables, settings=asdict(settings), code=code)


# Merlin takes seconds to import, so each step imports what it needs, after it is known that there is something to do.


def _write_parts(
    out: Path,
    tables: _Tables,
    splitter: Splitter,
    what: str,
    same_second: bool,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> None:
    """The ratings of each part, and the training rows' folds; `generators` are the split's and the folds'."""
    from workflows.features.interactions import write_parts

    split_rng, fold_rng = generators
    times = TimeOrder.of(tables.ratings_column(RAW_USER), tables.ratings_column(TIMESTAMP))
    split = splitter.assign(times, split_rng).check(what, splitter.needs)
    later = times.later()
    counts = {LATER: later, NOT_BEFORE: later if same_second else times.not_before()}
    del times
    write_parts(out, tables.ratings, split, counts, fold_rng)


def _write_interactions(
    out: Path, tables: _Tables, splitter: Splitter, threshold: int, advance: Advance
) -> dict[str, Vocabulary]:
    from workflows.features.interactions import transform

    vocabularies = fit_vocabularies(out, tables.ratings, tables.movies, tables.users, threshold)
    advance(1, "vocabularies")
    reported = transform(out, vocabularies, splitter.label, lambda share: advance(share, ""))
    advance(1 - reported, "transform")
    return vocabularies


def _write_side_tables(out: Path, tables: _Tables, vocabularies: dict[str, Vocabulary], seed: int) -> None:
    """The side tables, the schema that they make, and `features.json`."""
    from workflows.features.schema import model_schema, write_schema
    from workflows.features.side_tables import write_side_tables

    columns = write_side_tables(out, tables.movies, tables.users, vocabularies)
    embeddings = {name: vocabularies[name].embeddings for name in (USER_ID, MOVIE_ID)}
    write_schema(out, model_schema(embeddings, columns.cardinalities, len(columns.continuous)))
    sizes = {
        name: VocabularySizes(embeddings=found.embeddings, rows=found.rows, rated=found.rated)
        for name, found in vocabularies.items()
    }
    config = FeaturesConfig(
        user_id=sizes[USER_ID],
        movie_id=sizes[MOVIE_ID],
        continuous=columns.continuous,
        folds=FOLDS,
        seed=seed,
        movie_features=columns.movie_features,
    )
    write_json(out / FEATURES_CONFIG, asdict(config))
