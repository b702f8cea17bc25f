"""`latency.json`: how long a server took to answer with each network, as notebooks/04-triton.ipynb measures it."""

from dataclasses import asdict, replace

from pydantic.dataclasses import dataclass

from core.artifacts import MANIFEST, read_manifest
from core.json_files import STRICT, only_writer, read_json, validated, write_json
from core.run_folder import Run
from models.evaluation.results import model_digest

NOTEBOOK = "notebooks/04-triton.ipynb"  # which measures
RECOMMEND, SCORE = "recommend", "score"  # kinds of requests: a user's ten best movies; one user and one movie


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Took:
    """What requests of one kind took with one network.

    Attributes:
        requests: how many.
        median_ms, p99_ms: from the question to the answer, as the client saw it, in milliseconds.
    """

    requests: int
    median_ms: float
    p99_ms: float


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Served:
    """What was measured with the networks of one protocol: one client, asking through the front door.

    Attributes:
        device: what client, front door and Triton ran on, in words.
        digests: the `model_digest` of each network that was served.
        took: by the kind of request and the network.
    """

    device: str
    digests: dict[str, str]
    took: dict[str, dict[str, Took]]


def read_served(run: Run) -> dict[str, Served]:
    """The measurements by protocol; none where there is no file.

    Raises:
        UserError: the file is not such measurements.
    """
    if not run.latency.is_file():
        return {}
    again = "python tools/notebooks.py 04-triton"
    return validated(dict[str, Served], read_json(run.latency, again), str(run.latency), again)


def keep_served(run: Run, protocol: str, device: str, took: dict[str, dict[str, Took]]) -> None:
    """Writes what was measured with a run's networks, in place of what there was of the protocol.

    Raises:
        UserError: a network is not there, or the file cannot be written or is of something else.
    """
    models = sorted({model for by_model in took.values() for model in by_model})
    found = Served(device=device, digests={model: _digest(run, protocol, model) for model in models}, took=took)
    with only_writer(run.latency):
        measured = {**read_served(run), protocol: found}
        write_json(run.latency, {name: asdict(one) for name, one in measured.items()})


def served_now(run: Run, protocol: str) -> Served | None:
    """What was measured with the networks that the run has now; None where none of them was measured.

    Raises:
        UserError: as `read_served`.
    """
    found = read_served(run).get(protocol)
    if found is None:
        return None
    current = {
        model
        for model, digest in found.digests.items()
        if (run.model(protocol, model) / MANIFEST).is_file() and _digest(run, protocol, model) == digest
    }
    took = {
        kind: {model: one for model, one in by_model.items() if model in current}
        for kind, by_model in found.took.items()
    }
    return replace(found, took=took) if current else None


def _digest(run: Run, protocol: str, model: str) -> str:
    return model_digest(read_manifest(run.model(protocol, model), run.command("train"))["files"])
