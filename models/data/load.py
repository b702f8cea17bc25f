"""Loads what `prepare` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import Tensor

from core.artifacts import verify
from core.columns import FOLD, MOVIE_INDEX, USER_INDEX
from core.json_files import read_json, validated
from core.run_folder import Run
from models.data.features import Features, SideTables
from models.protocols.base import PROTOCOLS, preparing
from workflows.features.config import FEATURES_CONFIG, FeaturesConfig
from workflows.features.schema import load_schema
from workflows.features.vocabulary import FOLDS
from workflows.splits.base import split_files


def load_features(run: Run, protocol: str) -> Features:
    """Loads what `prepare` wrote, after checking it against its manifest.

    Raises:
        UserError: the folder is missing or has changed.
    """
    folder = run.features_of(PROTOCOLS[protocol].split)
    command = run.command(preparing(protocol))
    manifest = verify(folder, command)
    path = folder / FEATURES_CONFIG
    config = validated(FeaturesConfig, read_json(path, command), str(path), command)
    return Features(
        protocol=protocol,
        dataset=manifest["dataset"],
        folder=folder,
        schema=load_schema(folder),
        side=_side_tables(folder, config.movie_features),
        user_embeddings=config.user_id.embeddings,
        movie_embeddings=config.movie_id.embeddings,
        users=config.user_id.rows,
        movies=config.movie_id.rows,
        rated_movies=config.movie_id.rated,
        fingerprint=manifest["fingerprint"],
        label=PROTOCOLS[protocol].label,
    )


def training_rows(run: Run, protocol: str) -> int:
    """How many training ratings `prepare` wrote for a protocol."""
    return rows_of(run, protocol, ("train",))


def rows_of(run: Run, protocol: str, parts: tuple[str, ...]) -> int:
    """How many ratings of some parts, such as `train`, `prepare` wrote for a protocol."""
    folder = run.features_of(PROTOCOLS[protocol].split)
    files = [path for part in parts for path in split_files(folder, part)]
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def _side_tables(folder: Path, movie_columns: dict[str, list[str]]) -> SideTables:
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "side").glob("*.parquet")}
    details = [name for name in tables["user_features"].columns if name != USER_INDEX]
    columns = [name for names in movie_columns.values() for name in names]

    def statistics(kind: str, index: str) -> Tensor:
        table = tables[f"{kind}_statistics"].drop(columns=[FOLD, index])
        return torch.from_numpy(table.to_numpy(np.float32).reshape(FOLDS + 1, -1, table.shape[1]))

    return SideTables(
        user_details=torch.from_numpy(tables["user_features"][details].to_numpy(np.int64)),
        user_statistics=statistics("user", USER_INDEX),
        movie_features=torch.from_numpy(tables["movie_features"][columns].to_numpy(np.float32)),
        movie_statistics=statistics("movie", MOVIE_INDEX),
        detail_names=tuple(details),
        movie_columns=movie_columns,
    )
