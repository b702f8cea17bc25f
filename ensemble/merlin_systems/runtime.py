"""The reference path: Merlin Systems' own `Ensemble` on the same server, to compare Marquee's repository with.

`export_reference` writes `repository-merlin/` as Merlin Systems 23.8 writes it: for each network an ensemble of an
NVTabular workflow (raw ids to indices) and the network as TorchScript. In Triton an ensemble is an executor that calls
the other two as models of their own:

- `merlin_dlrm`, `merlin_ncf`: the executors, which clients ask. `user_id` INT64[n], `movie_id` INT64[n] (raw MovieLens
  ids) -> `score` FP32[n, 1], the probability.
- `0_transformworkflowtriton`: the workflow, the same for both. An unknown id becomes index 2.
- `merlin_dlrm_network`, `merlin_ncf_network`: the networks, on the backend `pytorch`.

Unlike `score` of `repository/`, the model is chosen by its Triton name, `score` has a second dimension, as Merlin's
networks have one, there is no `known`, and a request of no rows is refused: NVTabular's Categorify cannot take one.

Trust: Merlin's executor and `Workflow.load` unpickle what they serve (CVE-2025-33214), which is in the nature of this
runtime. So only a repository whose manifest holds is started, and a copy that was verified too is what is served. This
runtime is there to be compared with, not for production; a manifest protects from accidents, not from someone who can
write to the run folder.
"""

import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
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

from core.artifacts import code_digest, fingerprint, is_current, new_folder, verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.json_files import read_json
from core.run_folder import MODELS, Run
from ensemble import client
from ensemble.server.process import LOOPBACK, Ports, Server, _command, _end_with_parent, last_words, stop
from models.data.features import Features, load_features
from models.networks.base import Recommender
from models.networks.scoring import scorer
from models.training.train import load
from workflows.features.vocabulary import OUT_OF_VOCABULARY

BACKENDS = Path(__file__).parent / "backends"
START_SECONDS = 240  # five Pythons import PyTorch, three of them Merlin and TensorFlow besides
EXIT_SECONDS = 30  # and they take their time to end, too
PARITY_PAIRS = 1_000
PARITY_TOLERANCE = 1e-5


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
            warnings.simplefilter("ignore")  # it is deprecated, and says so at length
            return self.to_torchscript(method="trace", example_inputs=({USER_ID: example, MOVIE_ID: example},))


def triton_name(model: str) -> str:
    """What clients ask for in Triton."""
    return f"merlin_{model}"


def export_reference(run: Run, protocol: str) -> dict[str, Any]:
    """Writes `repository-merlin/`, whole or not at all; does nothing where it is there and up to date.

    Args:
        protocol: whose models are served.

    Returns:
        The repository's manifest.

    Raises:
        UserError: a model is missing or changed, or an ensemble does not score as the trained network does.
    """
    made_from = fingerprint(
        models={name: verify(run.model(protocol, name), run.command("train"))["files"] for name in MODELS},
        features=verify(run.features / protocol, run.command("prepare"))["fingerprint"],
        versions=[version("merlin-systems"), version("nvtabular"), version("torch")],
        code=code_digest(
            ("ensemble/merlin_systems", "models/networks", "models/data"), ("merlin-systems", "nvtabular", "torch")
        ),
    )
    if is_current(run.reference_repository, made_from):
        return verify(run.reference_repository, run.command("python -m marquee export --runtime merlin"))
    features = load_features(run, protocol)
    with (
        new_folder(run.reference_repository, made_from, dataset=run.root.name, protocol=protocol) as out,
        tempfile.TemporaryDirectory(prefix="marquee-categories-") as categories,
    ):
        for name in MODELS:
            model, _ = load(run, features, name, torch.device("cpu"))
            ensemble = _ensemble(model, features, Path(categories) / name)
            _check_parity(name, model, features, ensemble)
            ensemble.export.export(str(out), name=triton_name(name))
            _name_network(ensemble, out, name)
    return read_json(run.reference_repository / "manifest.json")


def _ensemble(model: Recommender, features: Features, categories: Path) -> Ensemble:
    """Raw ids >> Categorify with the run's vocabularies >> the network."""
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
    """Gives the network a Triton name of its own, as Merlin names both ensembles' networks the same."""
    (network,) = (
        node.op
        for node in postorder_iter_nodes(ensemble.graph.output_node)
        if isinstance(node.op, PredictPyTorchTriton)
    )
    merlins, own = network.torch_model_name, f"{triton_name(name)}_network"
    folder = (out / merlins).rename(out / own)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace(f'"{merlins}"', f'"{own}"'))
    network.set_torch_model_name(own)
    ensemble.save(str(out / triton_name(name) / "1" / "ensemble"))


def _check_parity(name: str, model: Recommender, features: Features, ensemble: Ensemble) -> None:
    """Scores random pairs, known and unknown, by the trained model and by the ensemble, before it is written."""
    rng = np.random.default_rng(0)
    raw, index = {}, []
    for ids in (USER_ID, MOVIE_ID):
        table = _vocabulary(features, ids)
        place = rng.integers(-1, len(table), PARITY_PAIRS)
        raw[ids] = np.where(place < 0, -1, table[ids].to_numpy()[place])
        index.append(np.where(place < 0, OUT_OF_VOCABULARY, table["index"].to_numpy()[place]).astype(np.int64))
    found = ensemble.transform(pd.DataFrame(raw), runtime=Runtime())["score"].to_numpy()
    worst = float(np.abs(found - scorer(model, torch.device("cpu"))(*index)).max())
    if not worst <= PARITY_TOLERANCE:
        raise UserError(
            f"Merlin's ensemble of {name} scores up to {worst:.1e} away from the trained model; not exported"
        )


@contextmanager
def running_reference(repository: Path, log: Path, port: int) -> Iterator[Server]:
    """A server on loopback whose models have all answered, stopped when the block ends.

    Args:
        repository: written by `export_reference`; its manifest is verified before anything starts.
        log: where the server's own output goes.
        port: for gRPC.

    Raises:
        UserError: the repository was changed, the port is taken, there is no Triton, or it does not come up.
    """
    verify(repository, "python -m marquee export --runtime merlin")
    ports = Ports(port)
    ports.check()
    with tempfile.TemporaryDirectory(prefix="marquee-triton-") as temporary:
        # What is unpickled is a copy that was verified: it cannot be changed under a running server.
        served = Path(shutil.copytree(repository, Path(temporary) / "repository"))
        verify(served, "python -m marquee export --runtime merlin")
        backends = Path(temporary) / "backends"
        command, environment = _command(served, ports, backends)
        if backends.is_dir():  # the wheel's server, which has the Python backend only
            shutil.copytree(BACKENDS, backends, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        command.append(f"--exit-timeout-secs={EXIT_SECONDS}")  # the last one counts
        environment = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_end_with_parent,
            )  # fmt: skip
        server = Server(f"{LOOPBACK}:{port}", process, log)
        try:
            _wait_for_answers(server)
            yield server
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(EXIT_SECONDS)
            stop(process)


def _wait_for_answers(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        server.check()
        try:
            for name in MODELS:
                score_reference(server.url, name, [0], [0])
            return
        except UserError as error:
            if time.monotonic() > deadline:
                words = last_words(server.log)
                raise UserError(
                    f"Triton gave no answer in {START_SECONDS} s ({error}): {words}; its log is {server.log}"
                ) from None
        time.sleep(0.2)


def score_reference(url: str, model: str, user_ids: Sequence[int], movie_ids: Sequence[int]) -> np.ndarray:
    """Probabilities of (user, movie) pairs from Merlin's runtime.

    Args:
        url: `host:port` of Triton's gRPC.
        model: `dlrm` or `ncf`.
        user_ids, movie_ids: raw MovieLens ids, [n] each, at least one.

    Returns:
        float32 [n].

    Raises:
        UserError: no pairs, arrays of different lengths, no server there, or it refuses the request.
    """
    if not len(user_ids) or len(user_ids) != len(movie_ids):
        raise UserError(
            f"{len(user_ids)} user_id and {len(movie_ids)} movie_id; Merlin's runtime wants as many of both, and some"
        )
    inputs = [client.tensor(USER_ID, user_ids, np.int64), client.tensor(MOVIE_ID, movie_ids, np.int64)]
    return client.infer(url, triton_name(model), inputs).as_numpy("score")[:, 0]
