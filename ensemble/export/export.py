"""The command `export`: trained networks to a version in the Triton model repository."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from core import signing
from core.artifacts import fingerprint, is_current, read_manifest, verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.json_files import write_json
from core.run_folder import Run
from core.stage_code import stage_code
from ensemble.export.check import OfflineCheck
from ensemble.export.configs import SCORER, configs
from ensemble.export.ids import kind_of, write_with_own_ids
from ensemble.export.lists import list_reader
from ensemble.export.model_card import model_card
from ensemble.export.newcomers import fit_newcomers
from ensemble.export.onnx_files import write_encoder, write_network, write_onnx
from ensemble.export.rated import Rated
from ensemble.export.retrieval import CANDIDATES, JUDGED, LEAST_MOVIES, LEAST_RECALL, Retrieval, fit_retrieval
from ensemble.export.similar_vectors import similar_vectors
from ensemble.export.titles import write_titles
from ensemble.repository.versions import new_version
from ensemble.triton_models.files import (
    CONFIG,
    MODEL_CARD,
    MODEL_CARD_IN_FRONT,
    OF_ALL,
    RATED,
    RATED_STARTS,
    SAMPLE,
    SERVING,
    SIMILAR_VECTORS,
    TITLES,
    encoder_file,
    newcomers_file,
    retrieval_network_file,
    retrieval_vectors_file,
    vocabulary_file,
    write_code,
)
from ensemble.triton_models.history import newcomer_row
from ensemble.triton_models.serving_config import NetworkConfig, ServingConfig
from models import registry
from models.cut import Cut
from models.data.features import Features
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.networks.base import NETWORKS, Recommender, cut
from models.protocols.base import PROTOCOLS
from models.training.train import TrainedConfig, load, read_config
from workflows.features.vocabulary import FIRST_INDEX, OUT_OF_VOCABULARY

ROOMS = (
    "core/constants.py",
    "ensemble/export",
    "ensemble/parity.py",
    "ensemble/repository/manifest.py",
    "ensemble/repository/versions.py",
    "ensemble/triton_models",
    "models/baselines/biases.py",
    "models/cut.py",
    "models/data",
    "models/evaluation/scorers.py",
    "models/networks/_blocks.py",
    "models/networks/base.py",
    "models/protocols",
    "models/training/settings.py",
    "models/training/train.py",
    "workflows/features/config.py",
    "workflows/features/schema.py",
    "workflows/features/side_features",
    "workflows/features/statistics.py",
    "workflows/features/vocabulary.py",
    "workflows/splits/base.py",
)
LIBRARIES = ("torch", "merlin-models", "onnx", "onnxruntime", "numpy")
LISTED = 10  # movies of the strangers that the first stage is judged by
CPU = torch.device("cpu")
IDS = {SCORER: (USER_ID, MOVIE_ID), "recommend": (USER_ID, MOVIE_ID), "similar": (MOVIE_ID,)}  # that each looks up


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    model: Recommender
    config: TrainedConfig
    features: Features

    @cached_property
    def cut(self) -> Cut:
        """What serving makes of it."""
        return cut(self.model, self.features.users, self.features.movies)


@dataclass(frozen=True)
class Fitted:
    """What is fitted to a network at export.

    Attributes:
        newcomers: what gives someone unknown a row; None where the network's encoder does.
        retrieval: the first of two stages.
    """

    newcomers: dict[str, np.ndarray] | None
    retrieval: Retrieval


def export(run: Run, protocol: str, default_model: str | None, key: Path | None = None) -> dict[str, Any]:
    """Adds a version to `repository/`, whole or not at all; does nothing where the one that serves is up to date,
    and signed with the key where there is one.

    Args:
        protocol: whose models are served: all that are trained for it and can be.
        default_model: which of them answers where the request does not say; None for the one that validated better.
        key: a private key (Ed25519, PEM) to sign the manifest with.

    Returns:
        The repository's manifest.

    Raises:
        UserError: there is no such model, it or the tables were changed, or what is exported does not score as the
            trained one does.
    """
    names = served(run, protocol)
    sealed = {name: verify(run.model(protocol, name), run.command("train")) for name in names}
    default = default_model or best_validated(run, protocol, names)
    if default not in names:
        raise UserError(
            f"{default} is not trained for {protocol} in {run.root}; trained and served: {', '.join(names)}"
        )
    tables = verify(run.tables, run.command("fetch"))
    card = model_card(run, protocol, {name: manifest["files"] for name, manifest in sealed.items()}, default)
    made_from = fingerprint(
        card=card,
        tables=tables["files"],
        models={name: manifest["files"] for name, manifest in sealed.items()},
        features=verify(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))["fingerprint"],
        default=default,
        code=stage_code(ROOMS, LIBRARIES, {name: NETWORKS[name] for name in names}),
    )
    if key:
        signing.private_key(key)
    if is_current(run.repository, made_from, key):
        return read_manifest(run.repository, run.command("export"))
    features = load_features(run, protocol)
    trained = {name: Trained(*load(run, features, name, CPU), features) for name in names}
    _write(run, made_from, key, trained, default, card)
    return read_manifest(run.repository, run.command("export"))


def served(run: Run, protocol: str) -> tuple[str, ...]:
    """The trained networks of a protocol that can be served.

    Raises:
        UserError: there is none.
    """
    names = tuple(name for name in registry.trained(run, protocol) if NETWORKS[name].is_served)
    if not names:
        raise UserError(
            f"no model that can be served is trained for {protocol} in {run.root}; run: {run.command('train')}"
        )
    return names


def best_validated(run: Run, protocol: str, names: Sequence[str]) -> str:
    """The network that validated best; the first of those whose validation is undefined."""
    monitor = PROTOCOLS[protocol].monitor
    sign = PROTOCOLS[protocol].metric(monitor).sign
    command = run.command("train")
    trained = {name: read_config(run.model(protocol, name), command) for name in names}

    def validated(name: str) -> float:
        value = trained[name].validation[monitor]
        return -math.inf if value is None else sign * value

    return max(names, key=validated)


def _write(run: Run, made_from: str, key: Path | None, trained: dict[str, Trained], default: str, card: str) -> None:
    """Adds a version to the repository."""
    features = trained[default].features
    rated = Rated.of(features)
    fitted = {name: _fit(one, rated) for name, one in trained.items()}
    networks = {name: _network_config(one.retrieval) for name, one in fitted.items()}
    details: dict[str, Any] = {
        "dataset": run.root.name,
        "protocol": features.protocol,
        "default_model": default,
        "candidates": CANDIDATES,
        **networks[default],
        "networks": networks,
    }
    serving = ServingConfig(
        **{**details, "networks": {name: NetworkConfig(**one) for name, one in networks.items()}},
        models=tuple(trained),
        raters=features.user_embeddings - FIRST_INDEX,
        unknown_index=OUT_OF_VOCABULARY,
    )
    with new_version(run.repository, made_from, key, details) as (out, version):
        folders = _write_models(run, out, version, features, serving)
        for name, one in trained.items():
            write_network(name, one.cut, folders[SCORER], one_user=False)
            _write_ranking(folders["recommend"], name, one.cut, fitted[name])
        np.save(folders["recommend"] / RATED, rated.places)
        np.save(folders["recommend"] / RATED_STARTS, rated.starts)
        np.save(folders["similar"] / SIMILAR_VECTORS, similar_vectors(trained[default].cut, features))
        scorers = {name: pair_scorer(one.model, CPU, features.protocol) for name, one in trained.items()}
        encoded = {name: one.model for name, one in trained.items() if one.cut.encoder}
        readers = {name: list_reader(model, CPU, features.protocol) for name, model in encoded.items()}
        check = OfflineCheck(scorers, folders[SCORER], folders["recommend"], readers)
        for name in trained:
            check.check_scores(name)
        write_json(folders[OF_ALL] / SAMPLE, check.sample())
        write_titles(run, folders[OF_ALL] / TITLES)
        for file in (folders[OF_ALL] / MODEL_CARD, out / MODEL_CARD_IN_FRONT):
            file.write_text(card, encoding="utf-8")


def _network_config(retrieval: Retrieval) -> dict[str, Any]:
    """How `recommend` answers with a network, as the manifest and `serving.json` say it."""
    two_stages = retrieval.recall >= LEAST_RECALL and len(retrieval.vectors) >= LEAST_MOVIES
    return {"strategy": "two-stage" if two_stages else "exact", "recall@10": round(retrieval.recall, 4)}


def _write_models(run: Run, out: Path, version: int, features: Features, serving: ServingConfig) -> dict[str, Path]:
    """Each Triton model's configuration, code and lookup tables; returns their version folders."""
    folders = {}
    for model, config in configs(version, kind_of(run, USER_ID), kind_of(run, MOVIE_ID)).items():
        folder = folders[model] = out / model / str(version)
        folder.mkdir(parents=True)
        for file in (out / model / CONFIG, folder / CONFIG):
            file.write_text(config)
    for model, ids in IDS.items():
        write_code(folders[model], model)
        for name in ids:
            vocabulary = pq.read_table(features.folder / "vocabulary" / f"{name}.parquet")
            write_with_own_ids(run, name, vocabulary, folders[model] / vocabulary_file(name))
        write_json(folders[model] / SERVING, serving.as_json())
    return folders


def _write_ranking(folder: Path, name: str, cut: Cut, fitted: Fitted) -> None:
    """What `recommend` needs of a network."""
    retrieval = fitted.retrieval
    write_network(name, cut, folder, one_user=True)
    if cut.encoder:
        write_encoder(cut.encoder, folder / encoder_file(name))
    if fitted.newcomers is not None:
        np.savez(folder / newcomers_file(name), **fitted.newcomers)
    np.save(folder / retrieval_vectors_file(name), retrieval.vectors)
    rows = {"user": cut.users[:1], "movie": retrieval.vectors[:2]}
    write_onnx(retrieval.query, rows, folder / retrieval_network_file(name))


def _fit(trained: Trained, rated: Rated) -> Fitted:
    """What `recommend` needs besides the network."""
    seed, features = trained.config.seed, trained.features
    encoder, newcomers = trained.cut.encoder, None
    if encoder is None:
        newcomers = fit_newcomers(trained.cut, trained.model, features, tuple(trained.config.trained_on), seed)
    users = range(FIRST_INDEX, features.user_embeddings)
    lists = [rated.by(user)[-LISTED:] for user in np.random.default_rng(seed).choice(users, JUDGED)]
    strangers = [(_row(encoder, newcomers, places + FIRST_INDEX), places) for places in lists if len(places)]
    return Fitted(newcomers, fit_retrieval(trained.cut, users, seed, rated=rated.by, strangers=strangers))


@torch.no_grad()
def _row(encoder: nn.Module | None, newcomers: dict[str, np.ndarray] | None, listed: np.ndarray) -> np.ndarray:
    """The row of someone unknown who lists movies, int64 [m] indices: float32 [1, width]."""
    if encoder is not None:
        return np.asarray(encoder(torch.from_numpy(listed).long()[None]).numpy())
    return newcomer_row(newcomers or {}, listed)
