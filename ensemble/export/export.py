"""Trained models to a release in the Triton model repository, checked against them before it is sealed."""

import io
import logging
import shutil
import warnings
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from core import signing
from core.artifacts import MANIFEST, SIGNATURE, code_digest, fingerprint, is_current, read_manifest, verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import MODELS, Run
from ensemble.export.cut import Sides, cut
from ensemble.export.newcomers import fit_newcomers
from ensemble.export.retrieval import CANDIDATES, JUDGED, LEAST_MOVIES, LEAST_RECALL, Retrieval, fit_retrieval
from ensemble.parity import is_equal, largest_difference
from ensemble.repository.versions import new_version
from ensemble.triton_models.files import (
    CONFIG,
    NEWCOMERS,
    RATED,
    RATED_STARTS,
    RETRIEVAL_NETWORK,
    RETRIEVAL_VECTORS,
    SAMPLE,
    SERVING,
    SIMILAR_VECTORS,
    network_file,
    rows_file,
    vocabulary_file,
    write_code,
)
from ensemble.triton_models.history import newcomer_row
from ensemble.triton_models.recommendations import Recommendations
from ensemble.triton_models.scores import Scores
from ensemble.triton_models.serving_config import ServingConfig
from models.data.features import Features, load_features
from models.networks.base import Recommender
from models.networks.scoring import MONITOR, SIGN, scorer
from models.training.settings import TrainSettings
from models.training.train import known_to, load
from workflows.features.vocabulary import FIRST_INDEX, OUT_OF_VOCABULARY

SCORER = "scorer"
PARITY_PAIRS = 1_000
UNKNOWN = 0.05  # of the ids that are checked
SAMPLE_PAIRS = 100
SAMPLE_PEOPLE = 3
LISTED = 10  # movies of the strangers that the first stage is judged by
OPSET = 17
LEARNED_SHARE = 0.5  # of a movie's vector in `similar`, for movies that have learned anything
YEAR_SHARE = 0.3  # of the year beside the genres


@dataclass(frozen=True)
class Signature:
    """A Triton model's tensors: name, type, shape, and for inputs whether it may be left out."""

    inputs: tuple[tuple[str, str, int, bool], ...]
    outputs: tuple[tuple[str, str, int], ...]

    def config(self, name: str, version: int, *more: str, ragged: bool = False) -> str:
        """`config.pbtxt`.

        Args:
            more: lines that say how it is answered.
            ragged: whether requests of different lengths may be answered together.
        """
        lines = [f'name: "{name}"', *more]
        for tensor, kind, size, optional in self.inputs:
            left_out = " optional: true" if optional else ""
            mixed = " allow_ragged_batch: true" if ragged else ""
            lines.append(f'input {{ name: "{tensor}" data_type: {kind} dims: [ {size} ]{left_out}{mixed} }}')
        for tensor, kind, size in self.outputs:
            lines.append(f'output {{ name: "{tensor}" data_type: {kind} dims: [ {size} ] }}')
        return "\n".join([*lines, f"version_policy {{ specific {{ versions: [ {version} ] }} }}", ""])


SCORE = Signature(
    (
        ("user_id", "TYPE_INT64", -1, False),
        ("movie_id", "TYPE_INT64", -1, False),
        ("model", "TYPE_STRING", 1, True),
    ),
    (("score", "TYPE_FP32", -1), ("known", "TYPE_BOOL", -1)),
)
RECOMMEND = Signature(
    (
        ("user_id", "TYPE_INT64", 1, False),
        ("k", "TYPE_INT32", 1, True),
        ("history", "TYPE_INT64", -1, True),
        ("strategy", "TYPE_STRING", 1, True),
    ),
    (("movie_id", "TYPE_INT64", -1), ("score", "TYPE_FP32", -1), ("known", "TYPE_BOOL", 1)),
)
SIMILAR = Signature(
    (("movie_id", "TYPE_INT64", 1, False), ("k", "TYPE_INT32", 1, True)),
    (("movie_id", "TYPE_INT64", -1), ("score", "TYPE_FP32", -1)),
)
PYTHON = ('backend: "python"', "instance_group { kind: KIND_CPU count: 1 }")
TOGETHER = 64  # requests that `scorer` answers at once


def configs(version: int) -> dict[str, str]:
    """Every Triton model's `config.pbtxt`.

    `score` is what clients ask, with tensors of one dimension, which Triton cannot batch. It hands them on as they are,
    as a row each, to `scorer`, where all that wait are answered together.
    """
    one = "max_batch_size: 0"
    names = {kind: [tensor[0] for tensor in tensors] for kind, tensors in vars(SCORE).items()}
    maps = " ".join(
        f'{kind[:-1]}_map {{ key: "{n}" value: "{n}" }}' for kind, all_names in names.items() for n in all_names
    )
    ensemble = f'ensemble_scheduling {{ step [ {{ model_name: "{SCORER}" model_version: -1 {maps} }} ] }}'
    return {
        "score": SCORE.config("score", version, 'platform: "ensemble"', one, ensemble),
        SCORER: SCORE.config(
            SCORER, version, *PYTHON, f"max_batch_size: {TOGETHER}", "dynamic_batching { }", ragged=True
        ),
        "recommend": RECOMMEND.config("recommend", version, *PYTHON, one),
        "similar": SIMILAR.config("similar", version, *PYTHON, one),
    }


@dataclass(frozen=True)
class Trained:
    """A trained network, and what serving makes of it."""

    model: Recommender
    config: dict[str, Any]
    sides: Sides


@dataclass(frozen=True)
class Rated:
    """Every pair that anyone has rated, in any split: what is never recommended.

    Attributes:
        places: int32 [ratings], places in the catalogue, user by user.
        starts: int64 [users + 1], where each user's start.
    """

    places: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, features: Features) -> "Rated":
        user, movie = features.seen("train", "valid", "test")
        starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=features.users))])
        return cls((movie - FIRST_INDEX)[np.argsort(user, kind="stable")], starts)

    def of_user(self, user: int) -> np.ndarray:
        """int32 [m], the train, valid and test rows one after the other."""
        return self.places[self.starts[user] : self.starts[user + 1]]


def export(run: Run, protocol: str, default_model: str | None, key: Path | None = None) -> dict[str, Any]:
    """Adds a release to `repository/`, whole or not at all; does nothing where the one that serves is up to date,
    and signed with the key where there is one.

    Args:
        protocol: whose models are served.
        default_model: which of them answers where the request does not say; None for the one that validated better.
        key: a private key (Ed25519, PEM) to sign the manifest with.

    Returns:
        The repository's manifest.

    Raises:
        UserError: a model is missing or changed, or what is exported does not score as the trained one does.
    """
    sealed = {name: verify(run.model(protocol, name), run.command("train")) for name in MODELS}
    default = default_model or _better(run, protocol)
    made_from = fingerprint(
        models={name: manifest["files"] for name, manifest in sealed.items()},
        features=verify(run.features / protocol, run.command("prepare"))["fingerprint"],
        default=default,
        code=code_digest(
            ("ensemble/export", "ensemble/triton_models", "models/networks", "models/data"),
            ("torch", "onnx", "onnxruntime", "numpy"),
        ),
    )
    signed = run.repository / MANIFEST, run.repository / SIGNATURE
    if is_current(run.repository, made_from) and (not key or signing.is_signed(*signed, key)):
        return read_manifest(run.repository, run.command("export"))
    features = load_features(run, protocol)
    trained = {}
    for name in MODELS:
        model, config = load(run, features, name, torch.device("cpu"))
        trained[name] = Trained(model, config, cut(model, features.users, features.movies))
    rated = Rated.of(features)
    newcomers, retrieval = _fit(trained[default], features, rated)
    two_stages = retrieval.recall >= LEAST_RECALL and len(retrieval.vectors) >= LEAST_MOVIES
    facts: dict[str, Any] = {
        "dataset": run.root.name,
        "protocol": protocol,
        "default_model": default,
        "strategy": "two-stage" if two_stages else "exact",
        "candidates": CANDIDATES,
        "recall@10": round(retrieval.recall, 4),
    }
    with new_version(run.repository, made_from, key, facts) as (out, version):
        folders = {}
        serving = ServingConfig(
            **facts,
            models=MODELS,
            raters=features.user_embeddings - FIRST_INDEX,
            unknown_index=OUT_OF_VOCABULARY,
        )
        for name, config_text in configs(version).items():
            folders[name] = out / name / str(version)
            folders[name].mkdir(parents=True)
            for config_file in (out / name / CONFIG, folders[name] / CONFIG):
                config_file.write_text(config_text)
            if name == "score":
                continue
            write_code(folders[name], name)
            for ids in (MOVIE_ID,) if name == "similar" else (USER_ID, MOVIE_ID):
                shutil.copy(features.folder / "vocabulary" / f"{ids}.parquet", folders[name] / vocabulary_file(ids))
            write_json(folders[name] / SERVING, serving.as_json())
        for name in MODELS:
            _write_network(name, trained[name].sides, folders[SCORER], one_user=False)
        _write_network(default, trained[default].sides, folders["recommend"], one_user=True)
        np.savez(folders["recommend"] / NEWCOMERS, **newcomers)
        np.save(folders["recommend"] / RETRIEVAL_VECTORS, retrieval.vectors)
        rows = {"user": trained[default].sides.users[:1], "movie": retrieval.vectors[:2]}
        _write_onnx(retrieval.query, rows, folders["recommend"] / RETRIEVAL_NETWORK)
        np.save(folders["recommend"] / RATED, rated.places)
        np.save(folders["recommend"] / RATED_STARTS, rated.starts)
        np.save(folders["similar"] / SIMILAR_VECTORS, _movie_vectors(trained[default].sides, features))
        check = _Check(trained, folders)
        for name in MODELS:
            check.scores(name)
        write_json(folders["score"] / SAMPLE, check.sample(default))
    return read_manifest(run.repository, run.command("export"))


def _better(run: Run, protocol: str) -> str:
    """The model that validated better."""
    monitor = MONITOR[protocol]
    validated = {name: read_json(run.model(protocol, name) / "config.json")["validation"][monitor] for name in MODELS}
    return max(validated, key=lambda name: SIGN[monitor] * validated[name])


def _fit(trained: Trained, features: Features, rated: Rated) -> tuple[dict[str, np.ndarray], Retrieval]:
    """What `recommend` needs besides the network: a row for someone unknown, and the first of two stages."""
    seed, known = trained.config["seed"], known_to(TrainSettings.of(trained.config["settings"]))
    newcomers = fit_newcomers(trained.sides, trained.model, features, known, seed)
    users = range(FIRST_INDEX, features.user_embeddings)
    lists = [rated.of_user(user)[-LISTED:] for user in np.random.default_rng(seed).choice(users, JUDGED)]
    strangers = [(newcomer_row(newcomers, places + FIRST_INDEX), places) for places in lists if len(places)]
    return newcomers, fit_retrieval(trained.sides, users, FIRST_INDEX, seed, rated.of_user, strangers)


def _write_network(name: str, sides: Sides, folder: Path, one_user: bool) -> None:
    tables = {"user": sides.users, "vector": sides.vectors, "hidden": sides.hidden}
    for kind, rows in tables.items():
        np.save(folder / rows_file(name, kind), rows)
    head = sides.head.for_one_user() if one_user else sides.head
    example = {kind: rows[: 1 if one_user and kind == "user" else 2] for kind, rows in tables.items()}
    _write_onnx(head, example, folder / network_file(name))


def _write_onnx(network: nn.Module, inputs: dict[str, np.ndarray], path: Path) -> None:
    """A network as ONNX, with inputs like these of any number of rows: it runs without pickle and training code."""
    buffer = io.BytesIO()
    # The newer exporter cannot trace all of Merlin's blocks; PyTorch before 2.5, as in Merlin's image, has no other.
    tracing = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so at length
        torch.onnx.export(
            network,
            tuple(map(torch.from_numpy, inputs.values())),
            buffer,
            input_names=list(inputs),
            output_names=["score"],
            dynamic_axes={name: {0: "users" if name == "user" else "n"} for name in (*inputs, "score")},
            opset_version=OPSET,
            **tracing,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _movie_vectors(sides: Sides, features: Features) -> np.ndarray:
    """What `similar` compares: float32 [movies of the catalogue, dims], of length 1.

    A movie's learned embedding beside its genres and year; one that has learned nothing has its content alone.
    """
    learned = sides.embeddings[FIRST_INDEX:] - sides.embeddings[FIRST_INDEX : features.movie_embeddings].mean(axis=0)
    learned[features.movie_embeddings - FIRST_INDEX :] = 0
    content = features.side.movie_features[FIRST_INDEX:].numpy() * 1.0
    content[:, :-1] = _unit(content[:, :-1])
    content[:, -1] *= YEAR_SHARE
    parts = LEARNED_SHARE**0.5 * _unit(learned), (1 - LEARNED_SHARE) ** 0.5 * _unit(content)
    return np.ascontiguousarray(_unit(np.concatenate(parts, axis=1)), np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


class _Check:
    """The trained networks, and the exported files, asked the same."""

    def __init__(self, trained: dict[str, Trained], folders: dict[str, Path]):
        self.rng = np.random.default_rng(0)
        self.offline = {name: scorer(one.model, torch.device("cpu")) for name, one in trained.items()}
        self.scores_files = Scores(folders[SCORER])
        self.recommendations = Recommendations(folders["recommend"])

    def pairs(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Random pairs, known and unknown: raw ids of users and of movies, int64 [count], then their indices."""
        raw, index = [], []
        for table in (self.scores_files.users, self.scores_files.movies):
            place = np.where(self.rng.random(count) < UNKNOWN, -1, self.rng.integers(0, len(table.ids), count))
            raw.append(np.where(place < 0, -1, table.ids[place]))
            index.append(np.where(place < 0, OUT_OF_VOCABULARY, table.index[place]))
        return raw[0], raw[1], index[0], index[1]

    def scores(self, name: str) -> None:
        """
        Raises:
            UserError: the exported network scores otherwise than the trained one.
        """
        raw_user, raw_movie, user, movie = self.pairs(PARITY_PAIRS)
        online, _ = self.scores_files.score(raw_user, raw_movie, name)
        _close(name, online, self.offline[name](user, movie))

    def sample(self, default: str) -> dict[str, Any]:
        """What the trained networks say of a few pairs, and the whole catalogue of a few users: for any later check."""
        raw_user, raw_movie, user, movie = self.pairs(SAMPLE_PAIRS)
        scores = {name: score(user, movie).tolist() for name, score in self.offline.items()}
        catalogue = self.scores_files.movies.index
        best = []
        for place in self.rng.integers(0, len(self.scores_files.users.ids), SAMPLE_PEOPLE):
            raw, index = int(self.scores_files.users.ids[place]), self.scores_files.users.index[place]
            everything = self.offline[default](np.full(len(catalogue), index), catalogue)
            everything[self.recommendations.rated_by(index)] = -np.inf
            movies, found, _ = self.recommendations.recommend(raw, strategy="exact")
            order = np.argsort(-everything, kind="stable")[: len(found)]
            _close(f"{default}'s recommendations", found, everything[order])
            best.append({"user_id": raw, "movie_id": movies.tolist(), "score": found.tolist()})
        return {"user_id": raw_user.tolist(), "movie_id": raw_movie.tolist(), "scores": scores, "recommend": best}


def _close(what: str, online: np.ndarray, offline: np.ndarray) -> None:
    worst = largest_difference(online, offline)
    if not is_equal(worst):
        raise UserError(f"the exported {what} score up to {worst:.1e} away from the trained ones; nothing was exported")
