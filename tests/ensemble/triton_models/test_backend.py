"""Triton's models with stand-ins for the Python backend's module: of the image's 2.35, and one with error codes."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

from tests.ensemble.triton_models.conftest import folder_of

PACKAGE = "ensemble.triton_models"
NEEDS_TRITON = [f"{PACKAGE}.{name}" for name in ("backend", "recommend", "scorer", "similar")]


class Tensor:
    def __init__(self, name: str, values: np.ndarray):
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._values


class InferenceRequest:
    def __init__(self, **inputs: np.ndarray):
        self.inputs = inputs


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.outputs = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.error = error


class ErrorWithoutCodes:
    """2.35's: a message, and nothing else."""

    code = None

    def __init__(self, message: str):
        self.message = message


class ErrorWithCodes:
    """From 2.38 (23.09) on."""

    INTERNAL, INVALID_ARG = 1, 3

    def __init__(self, message: str, code: int = INTERNAL):
        self.message, self.code = message, code


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return Tensor(name, request.inputs[name]) if name in request.inputs else None


@pytest.fixture(params=[(ErrorWithoutCodes, None), (ErrorWithCodes, ErrorWithCodes.INVALID_ARG)], ids=["2.35", "2.38"])
def model(request, exported, monkeypatch):
    """Loads a Triton model as the backend does; and the code that its refusals must have."""
    error, code = request.param
    module = ModuleType("triton_python_backend_utils")
    for part in (Tensor, InferenceRequest, InferenceResponse, get_input_tensor_by_name):
        setattr(module, part.__name__, part)
    module.TritonError = error
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in NEEDS_TRITON:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str):
        made = importlib.import_module(f"{PACKAGE}.{name}").TritonPythonModel()
        folder = folder_of(exported, name)
        made.initialize({"model_repository": str(folder.parent), "model_version": folder.name})
        return made, code

    yield load
    for name in NEEDS_TRITON:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "good", "bad", "words"),
    [
        (
            "scorer",
            {"user_id": np.array([[1, 3]]), "movie_id": np.array([[10, 20]])},
            {"user_id": np.array([[1, 3]])},
            "movie_id is missing",
        ),
        ("recommend", {"user_id": np.array([1])}, {"user_id": np.array([1]), "k": np.array([0], np.int32)}, "k"),
        ("recommend", {"user_id": np.array([1])}, {}, "user_id is missing"),
        (
            "recommend",
            {"history": np.array([10]), "model": np.array([b"ncf"], object)},
            {"history": np.array([10]), "model": np.array([b"svd"], object)},
            "unknown model 'svd'",
        ),
        ("similar", {"movie_id": np.array([10])}, {"movie_id": np.array([10]), "k": np.array([9999], np.int32)}, "k"),
    ],
)
def test_a_bad_request_is_refused_in_words_and_the_others_are_answered(model, name, good, bad, words):
    loaded, code = model(name)
    answered, refused, again = loaded.execute([InferenceRequest(**inputs) for inputs in (good, bad, good)])
    assert answered.error is None
    assert answered.outputs["score"].size
    assert answered.outputs.keys() == again.outputs.keys()
    assert words in refused.error.message
    assert refused.error.code == code
    assert not refused.outputs
