"""Triton's `pytorch` backend for a server that has none: a Python-based backend, `<backends>/pytorch/model.py`.

Serves TorchScript networks as Merlin Systems exports them: a dictionary of tensors in, one tensor out. It imports torch
and nothing of training, and unpickles nothing.
"""

import json
from pathlib import Path

import torch
import triton_python_backend_utils as pb_utils  # the Python backend's own


class TritonPythonModel:
    """The inputs that `config.pbtxt` lists -> its one output, whatever their shapes, on the CPU."""

    def initialize(self, args: dict[str, str]) -> None:
        torch.set_num_threads(1)  # one thread per instance: more fight for cores
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        (self.output,) = [tensor["name"] for tensor in config["output"]]
        version = Path(args["model_repository"]) / args["model_version"]
        self.network = torch.jit.load(version / "model.pt", map_location="cpu").eval()

    def execute(self, requests: list) -> list:
        return [self._respond(request) for request in requests]

    @torch.inference_mode()
    def _respond(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        arrays = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        # Copied, as Triton lends its arrays read-only.
        output = self.network({name: torch.tensor(array) for name, array in arrays.items()})
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.output, output.numpy())])
