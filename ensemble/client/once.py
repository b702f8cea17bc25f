"""One question over a connection of its own. For more than one, `Client` is several times as fast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import arguments
from ensemble.client.access import OPEN, Access
from ensemble.client.asking import SERVE, TIMEOUT
from ensemble.client.errors import user_error
from ensemble.client.kept import Client
from ensemble.client.questions import Id
from ensemble.triton_models.limits import DEFAULT_K


def score(
    url: str,
    user_ids: Sequence[Id],
    movie_ids: Sequence[Id],
    model: str = "",
    *,
    access: Access = OPEN,
    timeout: float = TIMEOUT,
    command: str = SERVE,
) -> tuple[np.ndarray, np.ndarray]:
    """`Client.score`: float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary."""
    with Client(url, access=access, timeout=timeout, command=command) as client:
        answer = client.score(user_ids, movie_ids, model)
    return answer.score, answer.known


def recommend(
    url: str,
    user_id: Id | None = None,
    k: int = DEFAULT_K,
    history: Sequence[Id] = (),
    model: str = "",
    strategy: str = "",
    *,
    access: Access = OPEN,
    timeout: float = TIMEOUT,
    command: str = SERVE,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """`Client.recommend`: movie ids and float32 scores, best first; and whether the answer is personal."""
    with Client(url, access=access, timeout=timeout, command=command) as client:
        answer = client.recommend(user_id, k, history, model, strategy)
    return answer.movie_id, answer.score, answer.known


def similar(
    url: str,
    movie_id: Id,
    k: int = DEFAULT_K,
    *,
    access: Access = OPEN,
    timeout: float = TIMEOUT,
    command: str = SERVE,
) -> tuple[np.ndarray, np.ndarray]:
    """`Client.similar`: movie ids and float32 cosines, best first."""
    with Client(url, access=access, timeout=timeout, command=command) as client:
        answer = client.similar(movie_id, k)
    return answer.movie_id, answer.score


def infer(
    url: str,
    model: str,
    inputs: list[grpc.InferInput],
    access: Access = OPEN,
    *,
    timeout: float = TIMEOUT,
    command: str = SERVE,
) -> grpc.InferResult:
    """What a Triton model answers to one request, which is sent once.

    Args:
        timeout: seconds.
        command: the command line that starts a server, for the message.

    Raises:
        UserError: it refuses the request; `NoServerError`, `TimedOutError` and `BusyError` where there is no answer.
    """
    with connection(url, access, timeout, command) as triton:
        return triton.infer(model, inputs, headers=access.headers, client_timeout=float(timeout))


@contextmanager
def connection(
    url: str, access: Access = OPEN, timeout: float = TIMEOUT, command: str = SERVE
) -> Iterator[grpc.InferenceServerClient]:
    """tritonclient's own client, whose errors are a line each, and which is closed when the block ends.

    Raises:
        UserError: as `infer` does.
    """
    wait = arguments.seconds(timeout)
    if not isinstance(access, Access):
        raise UserError(f"access is {access!r:.60}; it must be an Access")
    triton = access.connect(arguments.address(url))
    try:
        yield triton
    except InferenceServerException as error:
        raise user_error(error, url, access, timeout=wait, command=command) from None
    finally:
        triton.close()
