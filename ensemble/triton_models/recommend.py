"""Triton's `recommend`: becomes `recommend/<version>/model.py` in the exported repository."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import DEFAULT_K, NO_MOVIES, Recommendations
from backend import each, folder, given, needed, number, response, text


class TritonPythonModel:
    """user_id INT64[1]; k INT32[1], history INT64[m], strategy STRING[1] (optional) -> movie_id, score, known."""

    def initialize(self, args: dict[str, str]) -> None:
        self.recommendations = Recommendations(folder(args))

    def execute(self, requests: list) -> list:
        return each(self.answer, requests)

    def answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        history = given(request, "history")
        movies, scores, known = self.recommendations.recommend(
            int(needed(request, "user_id")[0]),
            number(request, "k", DEFAULT_K),
            NO_MOVIES if history is None else history,
            text(request, "strategy"),
        )
        return response(movie_id=movies, score=scores, known=np.array([known]))
