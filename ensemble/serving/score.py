"""Triton's `score`: becomes `score/1/model.py` in the exported repository."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own
from backend import AnsweringModel


class TritonPythonModel(AnsweringModel):
    """user_id INT64[n], movie_id INT64[n], model STRING[1] (optional) -> score FP32[n], known BOOL[n]."""

    def answer(self, request: "pb_utils.InferenceRequest") -> "list[pb_utils.Tensor]":
        model = pb_utils.get_input_tensor_by_name(request, "model")
        score, known = self.answers.score(
            pb_utils.get_input_tensor_by_name(request, "user_id").as_numpy(),
            pb_utils.get_input_tensor_by_name(request, "movie_id").as_numpy(),
            "" if model is None else model.as_numpy()[0].decode("utf-8", "replace"),
        )
        return [pb_utils.Tensor("score", score.astype(np.float32)), pb_utils.Tensor("known", known)]
