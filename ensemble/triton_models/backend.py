"""What Triton's models have in common: the files they load, and how a client's mistake is told.

`export` copies this file next to each model's `model.py`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import BadRequest


def folder(args: dict[str, str]) -> Path:
    """Where the files of the version that Triton loads lie."""
    return Path(args["model_repository"]) / args["model_version"]


def given(request: "pb_utils.InferenceRequest", name: str) -> np.ndarray | None:
    """An input, or None where it was left out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def needed(request: "pb_utils.InferenceRequest", name: str) -> np.ndarray:
    """An input that Triton lets through without, as it counts them only, where others may be left out.

    Raises:
        BadRequest: it was left out.
    """
    values = given(request, name)
    if values is None:
        raise BadRequest(f"{name} is missing")
    return values


def number(request: "pb_utils.InferenceRequest", name: str, default: int) -> int:
    """An input of one integer that may be left out."""
    values = given(request, name)
    return default if values is None else int(values[0])


def text(request: "pb_utils.InferenceRequest", name: str) -> str:
    """An input of one string; empty where it was left out."""
    values = given(request, name)
    return "" if values is None else values.reshape(-1)[0].decode("utf-8", "replace")


def refusal(error: BadRequest) -> "pb_utils.InferenceResponse":
    """INVALID_ARGUMENT with the sentence that says why."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))


def response(**outputs: np.ndarray) -> "pb_utils.InferenceResponse":
    """The output tensors by their names."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])


def each(answer: Callable[..., "pb_utils.InferenceResponse"], requests: list) -> list:
    """An answer to each request, or the refusal of it."""
    responses = []
    for request in requests:
        try:
            responses.append(answer(request))
        except BadRequest as error:
            responses.append(refusal(error))
    return responses
