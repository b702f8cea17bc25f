"""Asks Triton over gRPC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from marquee.errors import UserError

TIMEOUT = 30.0  # seconds


def score(
    url: str, user_ids: Sequence[int], movie_ids: Sequence[int], model: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of (user, movie) pairs.

    Args:
        url: `host:port` of Triton's gRPC.
        user_ids, movie_ids: raw MovieLens ids, [n] each.
        model: `dlrm` or `ncf`; empty for the repository's default.

    Returns:
        float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary.

    Raises:
        UserError: no server there, or it refuses the request.
    """
    inputs = [_tensor("user_id", user_ids, np.int64), _tensor("movie_id", movie_ids, np.int64)]
    if model:
        inputs.append(_tensor("model", [model.encode()], np.object_))
    result = _infer(url, "score", inputs)
    return result.as_numpy("score"), result.as_numpy("known")


def recommend(url: str, user_id: int, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` movies for a user, without those that the user has rated.

    Returns:
        int64 movie ids and float32 scores, best first.

    Raises:
        UserError: no server there, or it refuses the request.
    """
    if not -(1 << 31) <= k < 1 << 31:
        raise UserError(f"k is {k}; it must be from 1 to 1000")
    result = _infer(url, "recommend", [_tensor("user_id", [user_id], np.int64), _tensor("k", [k], np.int32)])
    return result.as_numpy("movie_id"), result.as_numpy("score")


def _tensor(name: str, values: Sequence, dtype: type) -> grpc.InferInput:
    try:
        array: np.ndarray = np.asarray(values, dtype)
    except OverflowError:
        raise UserError(f"a {name} does not fit in 64 bits") from None
    tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _infer(url: str, model: str, inputs: list[grpc.InferInput]) -> grpc.InferResult:
    with _connection(url) as connection:
        return connection.infer(model, inputs, client_timeout=TIMEOUT)


@contextmanager
def _connection(url: str) -> Iterator[grpc.InferenceServerClient]:
    connection = grpc.InferenceServerClient(url)
    try:
        yield connection
    except InferenceServerException as error:
        status, message = str(error.status()), " ".join(str(error.message()).split())
        if "UNAVAILABLE" in status:
            raise UserError(f"no Triton answers at {url}; start one with: python -m marquee serve") from None
        if "DEADLINE_EXCEEDED" in status:
            raise UserError(f"Triton at {url} did not answer within {TIMEOUT:g} s") from None
        raise UserError(f"Triton refused: {message}") from None
    finally:
        connection.close()
