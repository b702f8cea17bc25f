"""Trained models to a Triton model repository, checked against them before it is sealed."""

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
import pandas as pd
import torch
from torch import Tensor, nn

from ensemble.serving.answers import Answers
from marquee.columns import MOVIE_ID, MOVIE_INDEX, USER_ID, USER_INDEX
from marquee.errors import UserError
from marquee.manifest import fingerprint, is_current, new_folder, read_json, source_digest, verify, write_json
from marquee.runs import MODELS, Run
from models.data import Features, load_features
from models.networks import Recommender
from models.scoring import MONITOR, scorer
from models.training import load
from workflows.vocabulary import OUT_OF_VOCABULARY

SERVING = Path(__file__).parent / "serving"
PARITY_PAIRS = 1_000
PARITY_TOLERANCE = 1e-5
OPSET = 17


@dataclass(frozen=True)
class Signature:
    """A Triton model's tensors: name, type, shape, and for inputs whether it may be left out."""

    inputs: tuple[tuple[str, str, int, bool], ...]
    outputs: tuple[tuple[str, str, int], ...]

    def config(self, name: str) -> str:
        """`config.pbtxt`."""
        lines = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 0"]
        for tensor, kind, size, optional in self.inputs:
            left_out = " optional: true" if optional else ""
            lines.append(f'input {{ name: "{tensor}" data_type: {kind} dims: [ {size} ]{left_out} }}')
        for tensor, kind, size in self.outputs:
            lines.append(f'output {{ name: "{tensor}" data_type: {kind} dims: [ {size} ] }}')
        return "\n".join([*lines, "instance_group { kind: KIND_CPU count: 1 }", ""])


SIGNATURES = {
    "score": Signature(
        (
            ("user_id", "TYPE_INT64", -1, False),
            ("movie_id", "TYPE_INT64", -1, False),
            ("model", "TYPE_STRING", 1, True),
        ),
        (("score", "TYPE_FP32", -1), ("known", "TYPE_BOOL", -1)),
    ),
    "recommend": Signature(
        (("user_id", "TYPE_INT64", 1, False), ("k", "TYPE_INT32", 1, True)),
        (("movie_id", "TYPE_INT64", -1), ("score", "TYPE_FP32", -1)),
    ),
}


class Served(nn.Module):
    """The recommender as it is exported: indices to probabilities, with the statistics of all training rows."""

    def __init__(self, model: Recommender):
        super().__init__()
        self.model = model

    def forward(self, user: Tensor, movie: Tensor) -> Tensor:
        return torch.sigmoid(self.model(user, movie))


def export(run: Run, protocol: str, default_model: str | None) -> dict[str, Any]:
    """Writes `repository/`, whole or not at all; does nothing where it is there and up to date.

    Args:
        protocol: whose models are served.
        default_model: which of them answers where the request does not say; None for the one that validated better.

    Returns:
        The repository's manifest.

    Raises:
        UserError: a model is missing or changed, or the exported network does not score as the trained one does.
    """
    configs = {name: verify(run.model(protocol, name), "train") for name in MODELS}
    made_from = fingerprint(
        models={name: manifest["files"] for name, manifest in configs.items()},
        features=verify(run.features / protocol, "prepare")["fingerprint"],
        default=default_model,
        code=[source_digest("ensemble"), source_digest("models")],
    )
    if is_current(run.repository, made_from):
        return verify(run.repository, "export")
    features = load_features(run, protocol)
    loaded = {name: load(run, features, name, torch.device("cpu")) for name in MODELS}
    default = default_model or _better(protocol, {name: config for name, (_, config) in loaded.items()})
    facts = {"dataset": run.root.name, "protocol": protocol, "default_model": default}
    with new_folder(run.repository, made_from, **facts) as out:
        for name, tensors in SIGNATURES.items():
            version = out / name / "1"
            version.mkdir(parents=True)
            (out / name / "config.pbtxt").write_text(tensors.config(name))
            shutil.copy(SERVING / f"{name}.py", version / "model.py")
            for shared in ("answers.py", "backend.py"):
                shutil.copy(SERVING / shared, version / shared)
            for ids in (USER_ID, MOVIE_ID):
                shutil.copy(features.folder / "vocabulary" / f"{ids}.parquet", version / f"{ids}.parquet")
            write_json(version / "serving.json", {**facts, "unknown_index": OUT_OF_VOCABULARY})
            for model in MODELS if name == "score" else (default,):
                _write_onnx(loaded[model][0], version / f"{model}.onnx")
        _write_rated(features, out / "recommend" / "1" / "rated.parquet")
        for name, (model, _) in loaded.items():
            _check_parity(name, model, features, out / "score" / "1")
    return read_json(run.repository / "manifest.json")


def _better(protocol: str, configs: dict[str, dict[str, Any]]) -> str:
    return max(configs, key=lambda name: configs[name]["validation"][MONITOR[protocol]])


def _write_onnx(model: Recommender, path: Path) -> None:
    """The network with its side tables inside, as ONNX: no pickle, and no training code, is needed to run it."""
    example = torch.full((2,), OUT_OF_VOCABULARY)
    buffer = io.BytesIO()
    # The newer exporter cannot trace Merlin's blocks; PyTorch before 2.5, as in the Merlin image, knows no other one.
    tracing = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so at length
        torch.onnx.export(
            Served(model).eval(),
            (example, example),
            buffer,
            input_names=["user", "movie"],
            output_names=["score"],
            dynamic_axes={"user": {0: "n"}, "movie": {0: "n"}, "score": {0: "n"}},
            opset_version=OPSET,
            **tracing,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _write_rated(features: Features, path: Path) -> None:
    """Every pair that anyone has rated, in any split, sorted by user: what is never recommended."""
    user, movie = features.seen("train", "valid", "test")
    frame = pd.DataFrame({USER_INDEX: user.astype(np.int32), MOVIE_INDEX: movie.astype(np.int32)})
    frame.sort_values([USER_INDEX, MOVIE_INDEX], ignore_index=True).to_parquet(path, index=False)


def _check_parity(name: str, model: Recommender, features: Features, folder: Path) -> None:
    """Scores random pairs, known and unknown, by the trained model and by the exported files."""
    rng = np.random.default_rng(0)
    answers = Answers(folder)
    user = rng.integers(-1, len(answers.users.ids), PARITY_PAIRS)
    movie = rng.integers(-1, len(answers.movies.ids), PARITY_PAIRS)
    raw_user = np.where(user < 0, -1, answers.users.ids[user])
    raw_movie = np.where(movie < 0, -1, answers.movies.ids[movie])
    online, _ = answers.score(raw_user, raw_movie, name)
    index = [
        np.where(i < 0, OUT_OF_VOCABULARY, table.index[i])
        for i, table in ((user, answers.users), (movie, answers.movies))
    ]
    worst = float(np.abs(online - scorer(model, torch.device("cpu"))(*index)).max())
    if not worst <= PARITY_TOLERANCE:
        raise UserError(f"the exported {name} scores up to {worst:.1e} away from the trained one; nothing was exported")
