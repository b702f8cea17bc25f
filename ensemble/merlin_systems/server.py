"""A Triton with Merlin Systems' runtime, and the questions to it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from core.artifacts import ANY_COMMAND, verify
from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.temporary import temporary_folder
from ensemble import arguments, client
from ensemble.merlin_systems import triton_name
from ensemble.server.launch import launch, triton_command
from ensemble.server.ports import Ports
from ensemble.server.process import TEMPORARY, Server
from ensemble.server.shared_memory import reserved

BACKENDS = Path(__file__).parent / "backends"
START_SECONDS = 240  # five Python processes import PyTorch, and three of them Merlin and TensorFlow too
EXIT_SECONDS = 30  # they also take long to end
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # where nothing else is set


@contextmanager
def running_merlin(
    repository: Path, log: Path, port: int, models: Sequence[str], command: str = ANY_COMMAND
) -> Iterator[Server]:
    """A server on loopback whose models have all answered, stopped when the block ends.

    Args:
        repository: written by `export_merlin`; its manifest is verified before anything starts.
        log: where the server's own output goes.
        port: for gRPC.
        models: the networks that were exported.
        command: the command line that writes the repository, for the message.

    Raises:
        UserError: the repository was changed, the port is taken, there is no Triton, or it does not come up.
    """
    verify(repository, command)
    ports = Ports(port)
    ports.check()
    with temporary_folder(TEMPORARY) as temporary, reserved() as (shared, inherited):
        # What is unpickled is a verified copy, which cannot be changed under a running server.
        served = shutil.copytree(repository, temporary / "repository")
        verify(served, command)
        backends = temporary / "backends"
        command_line, environment = triton_command(served, port, backends)
        if backends.is_dir():  # of the wheel's server, which has the Python backend only
            shutil.copytree(BACKENDS, backends, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        command_line.append(f"--exit-timeout-secs={EXIT_SECONDS}")  # Triton takes the last one
        command_line.append(f"--backend-config=python,shm-region-prefix-name={shared}")
        process = launch(command_line, {**ENVIRONMENT, **environment}, log, temporary, inherited)
        server = Server(ports.url, process, log, shared=shared)

        def ask_every_model() -> None:
            for model in models:
                score_merlin(server.url, model, [0], [0])

        try:
            server.wait_for(ask_every_model, START_SECONDS)
            yield server
        finally:
            server.stop(EXIT_SECONDS)


def score_merlin(url: str, model: str, user_ids: Sequence[int], movie_ids: Sequence[int]) -> np.ndarray:
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
            f"{len(user_ids)} user_id and {len(movie_ids)} movie_id; Merlin's runtime needs the same number of both, "
            "at least one"
        )
    users, movies = arguments.pairs(user_ids, movie_ids)
    inputs = [client.tensor(USER_ID, users, np.int64), client.tensor(MOVIE_ID, movies, np.int64)]
    return client.infer(url, triton_name(model), inputs).as_numpy("score")[:, 0]
