"""Triton's `score`: becomes `score/1/model.py` in the exported repository."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import Answers, BadRequest


class TritonPythonModel:
    """user_id INT64[n], movie_id INT64[n], model STRING[1] (optional) -> score FP32[n], known BOOL[n]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.answers = Answers(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        model = pb_utils.get_input_tensor_by_name(request, "model")
        try:
            score, known = self.answers.score(
                pb_utils.get_input_tensor_by_name(request, "user_id").as_numpy(),
                pb_utils.get_input_tensor_by_name(request, "movie_id").as_numpy(),
                "" if model is None else model.as_numpy()[0].decode("utf-8", "replace"),
            )
        except BadRequest as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("score", score.astype(np.float32)), pb_utils.Tensor("known", known)]
        )
