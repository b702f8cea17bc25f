"""Triton's `recommend`."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own

from .backend import (
    optional_input,
    optional_int,
    optional_text,
    required_input,
    respond_to_each,
    response,
    version_folder,
)
from .limits import DEFAULT_K
from .recommendations import NO_MOVIES, Recommendations


class TritonPythonModel:
    """user_id INT64[1]; k INT32[1], history INT64[m], strategy STRING[1] (optional) -> movie_id, score, known."""

    def initialize(self, args: dict[str, str]) -> None:
        self.recommendations = Recommendations(version_folder(args))

    def execute(self, requests: list) -> list:
        return respond_to_each(self.answer, requests)

    def answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        history = optional_input(request, "history")
        movies, scores, known = self.recommendations.recommend(
            int(required_input(request, "user_id")[0]),
            optional_int(request, "k", DEFAULT_K),
            NO_MOVIES if history is None else history,
            optional_text(request, "strategy"),
        )
        return response(movie_id=movies, score=scores, known=np.array([known]))
