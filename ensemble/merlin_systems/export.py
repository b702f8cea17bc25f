"""Trained networks to `repository-merlin/`, checked against them before it is written."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import nvtabular as nvt
import pandas as pd
import torch
from merlin.dag import postorder_iter_nodes
from merlin.dag.runtime import Runtime
from merlin.schema import ColumnSchema, Schema
from merlin.systems.dag import Ensemble
from merlin.systems.dag.ops.pytorch import PredictPyTorch
from merlin.systems.dag.ops.workflow import TransformWorkflow
from merlin.systems.dag.runtimes.triton.ops.pytorch import PredictPyTorchTriton
from nvtabular import ops
from pytorch_lightning import LightningModule
from torch import Tensor

from core.artifacts import code_digest, fingerprint, is_current, new_folder, read_manifest, verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.plain_path import plain_path
from core.run_folder import Run
from core.temporary import temporary_folder
from ensemble.merlin_systems import triton_name
from ensemble.parity import is_equal, largest_difference
from ensemble.triton_models.files import CONFIG
from models.data.features import Features
from models.data.load import load_features
from models.evaluation.scorers import pair_scorer
from models.networks.base import Recommender
from models.protocols.base import PROTOCOLS
from models.training.train import load
from workflows.features.vocabulary import OUT_OF_VOCABULARY

PARITY_PAIRS = 1_000
COMPUTES = ("ensemble/merlin_systems", "models/networks", "models/data", "models/protocols")
LIBRARIES = ("merlin-systems", "merlin-models", "nvtabular", "torch")
VERSION = "1"  # Merlin Systems knows only one


class TracedScore(LightningModule):
    """The recommender as Merlin Systems exports it: a dictionary of index tensors to probabilities [n, 1].

    A Lightning module for its `to_torchscript`, without which no other Lightning module, as Merlin's `Model`, can be
    traced.
    """

    def __init__(self, model: Recommender):
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return torch.sigmoid(self.model(inputs[USER_ID], inputs[MOVIE_ID])).unsqueeze(1)

    def traced(self) -> torch.jit.ScriptModule:
        """The network as TorchScript, for any number of rows, traced."""
        example = torch.full((2,), OUT_OF_VOCABULARY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a long deprecation warning
            return self.to_torchscript(method="trace", example_inputs=({USER_ID: example, MOVIE_ID: example},))


def export_merlin(run: Run, protocol: str, models: Sequence[str]) -> dict[str, Any]:
    """Writes `repository-merlin/`, whole or not at all; does nothing where it is there and up to date.

    Args:
        protocol: whose models are served.
        models: the trained networks to serve.

    Returns:
        The repository's manifest.

    Raises:
        UserError: a model is missing or changed, or an ensemble does not score as the trained network does.
    """
    made_from = fingerprint(
        models={name: verify(run.model(protocol, name), run.command("train"))["files"] for name in models},
        features=verify(run.features_of(PROTOCOLS[protocol].split), run.command("prepare"))["fingerprint"],
        code=code_digest(COMPUTES, LIBRARIES),
    )
    command = run.command("export --runtime merlin")
    if is_current(run.reference_repository, made_from):
        return read_manifest(run.reference_repository, command)
    features = load_features(run, protocol)
    with (
        new_folder(
            run.reference_repository, made_from, dataset=run.root.name, protocol=protocol, models=list(models)
        ) as made,
        plain_path(made) as out,
        temporary_folder("marquee-categories-") as categories,
    ):
        for name in models:
            model, _ = load(run, features, name, torch.device("cpu"))
            ensemble = build_ensemble(model, features, categories / name)
            _check_parity(name, model, features, ensemble)
            ensemble.export(str(out), name=triton_name(name))
            _name_network(ensemble, out, name)
    return read_manifest(run.reference_repository, command)


def build_ensemble(model: Recommender, features: Features, categories: Path) -> Ensemble:
    """Raw ids >> Categorify with the run's vocabularies >> the network.

    Args:
        categories: a folder that Categorify may write to.
    """
    vocabularies = {name: _vocabulary(features, name)[name] for name in (USER_ID, MOVIE_ID)}
    graph = [USER_ID, MOVIE_ID] >> ops.Categorify(vocabs=vocabularies, out_path=str(categories), dtype=np.int64)
    raw = Schema([ColumnSchema(name, dtype=np.int64) for name in (USER_ID, MOVIE_ID)])
    workflow = nvt.Workflow(graph).fit_schema(raw)
    score = Schema([ColumnSchema("score", dtype=np.float32, dims=(None, 1))])
    network = PredictPyTorch(TracedScore(model).traced(), workflow.output_schema, score)
    return Ensemble([USER_ID, MOVIE_ID] >> TransformWorkflow(workflow) >> network, raw)


def _vocabulary(features: Features, name: str) -> pd.DataFrame:
    """The ids in the order of their indices."""
    return pd.read_parquet(features.folder / "vocabulary" / f"{name}.parquet")


def _name_network(ensemble: Ensemble, out: Path, name: str) -> None:
    """Gives the network a Triton name of its own, as Merlin gives those of both ensembles the same name."""
    networks = [
        node.op
        for node in postorder_iter_nodes(ensemble.graph.output_node)
        if isinstance(node.op, PredictPyTorchTriton)
    ]
    (network,) = networks
    merlin_name, own_name = network.torch_model_name, f"{triton_name(name)}_network"
    folder = (out / merlin_name).rename(out / own_name)
    config = folder / CONFIG
    config.write_text(config.read_text().replace(f'"{merlin_name}"', f'"{own_name}"'))
    network.set_torch_model_name(own_name)
    ensemble.save(str(out / triton_name(name) / VERSION / "ensemble"))


def _check_parity(name: str, model: Recommender, features: Features, ensemble: Ensemble) -> None:
    """Scores random pairs, known and unknown, by the trained model and by the ensemble, before it is written.

    Raises:
        UserError: they do not score the same.
    """
    rng = np.random.default_rng(0)
    raw, index = {}, []
    for ids in (USER_ID, MOVIE_ID):
        table = _vocabulary(features, ids)
        place = rng.integers(-1, len(table), PARITY_PAIRS)  # -1 for an unknown id
        raw[ids] = np.where(place < 0, -1, table[ids].to_numpy()[place])
        index.append(np.where(place < 0, OUT_OF_VOCABULARY, table["index"].to_numpy()[place]).astype(np.int64))
    found = ensemble.transform(pd.DataFrame(raw), runtime=Runtime())["score"].to_numpy()
    worst = largest_difference(found, pair_scorer(model, torch.device("cpu"), features.protocol)(*index))
    if not is_equal(worst):
        raise UserError(
            f"Merlin's ensemble of {name} scores up to {worst:.1e} away from the trained model; not exported"
        )
