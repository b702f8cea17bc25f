"""Triton's `recommend`: becomes `recommend/1/model.py` in the exported repository."""

from pathlib import Path

import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import DEFAULT_K, Answers, BadRequest


class TritonPythonModel:
    """user_id INT64[1], k INT32[1] (optional) -> movie_id INT64[k], score FP32[k]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.answers = Answers(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        user = pb_utils.get_input_tensor_by_name(request, "user_id")
        k = pb_utils.get_input_tensor_by_name(request, "k")
        try:
            movies, scores = self.answers.recommend(
                int(user.as_numpy()[0]), DEFAULT_K if k is None else int(k.as_numpy()[0])
            )
        except BadRequest as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor("movie_id", movies), pb_utils.Tensor("score", scores)])
