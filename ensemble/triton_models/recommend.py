"""Triton's `recommend`."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own

from .backend import (
    optional_input,
    optional_int,
    optional_text,
    respond_to_each,
    response,
    version_folder,
)
from .limits import DEFAULT_K, BadRequest
from .recommendations import NO_MOVIES, Recommendations


class TritonPythonModel:
    """user_id INT64[1] or history INT64[m] or both; k INT32[1], model and strategy STRING[1] (optional)
    -> movie_id INT64[k], score FP32[k], known BOOL[1]. Ids that are text are STRING."""

    def initialize(self, args: dict[str, str]) -> None:
        self.recommendations = Recommendations(version_folder(args))

    def execute(self, requests: list) -> list:
        return respond_to_each(self.answer, requests)

    def answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        user_id, history = optional_input(request, "user_id"), optional_input(request, "history")
        if user_id is None and history is None:
            raise BadRequest("user_id is missing; someone without one is asked for with a history")
        movies, scores, known = self.recommendations.recommend(
            None if user_id is None else user_id[0],
            optional_int(request, "k", DEFAULT_K),
            NO_MOVIES if history is None else history,
            optional_text(request, "strategy"),
            optional_text(request, "model"),
        )
        return response(movie_id=movies, score=scores, known=np.array([known]))
