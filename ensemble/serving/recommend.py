"""Triton's `recommend`: becomes `recommend/1/model.py` in the exported repository."""

import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import DEFAULT_K
from backend import AnsweringModel


class TritonPythonModel(AnsweringModel):
    """user_id INT64[1], k INT32[1] (optional) -> movie_id INT64[k], score FP32[k]."""

    def answer(self, request: "pb_utils.InferenceRequest") -> "list[pb_utils.Tensor]":
        user = pb_utils.get_input_tensor_by_name(request, "user_id")
        k = pb_utils.get_input_tensor_by_name(request, "k")
        movies, scores = self.answers.recommend(
            int(user.as_numpy()[0]), DEFAULT_K if k is None else int(k.as_numpy()[0])
        )
        return [pb_utils.Tensor("movie_id", movies), pb_utils.Tensor("score", scores)]
