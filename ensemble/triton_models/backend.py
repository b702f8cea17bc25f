"""What Triton's models have in common: their folder, the inputs of a request, and responses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own

from .limits import BadRequest


def version_folder(args: dict[str, str]) -> Path:
    """The folder of the version that Triton loads."""
    return Path(args["model_repository"]) / args["model_version"]


def optional_input(request: "pb_utils.InferenceRequest", name: str) -> np.ndarray | None:
    """An input, or None where it was left out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def required_input(request: "pb_utils.InferenceRequest", name: str) -> np.ndarray:
    """An input that must be there: where a model has optional inputs, Triton only counts them.

    Raises:
        BadRequest: it was left out.
    """
    values = optional_input(request, name)
    if values is None:
        raise BadRequest(f"{name} is missing")
    return values


def optional_int(request: "pb_utils.InferenceRequest", name: str, default: int) -> int:
    """An input of one integer that may be left out."""
    values = optional_input(request, name)
    return default if values is None else int(values[0])


def optional_text(request: "pb_utils.InferenceRequest", name: str) -> str:
    """An input of one string; empty where it was left out."""
    values = optional_input(request, name)
    return "" if values is None else values.reshape(-1)[0].decode("utf-8", "replace")


def error_response(error: BadRequest) -> "pb_utils.InferenceResponse":
    """INVALID_ARGUMENT with the sentence that says why; INTERNAL from Triton before 2.38, which has no codes."""
    code = getattr(pb_utils.TritonError, "INVALID_ARG", None)
    codes = () if code is None else (code,)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), *codes))


def response(**outputs: np.ndarray) -> "pb_utils.InferenceResponse":
    """The output tensors by their names."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])


def respond_to_each(answer: Callable[..., "pb_utils.InferenceResponse"], requests: list) -> list:
    """An answer to each request, or an error where it is a bad one."""
    responses = []
    for request in requests:
        try:
            responses.append(answer(request))
        except BadRequest as error:
            responses.append(error_response(error))
    return responses
