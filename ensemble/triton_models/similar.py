"""Triton's `similar`: becomes `similar/<version>/model.py` in the exported repository."""

import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import DEFAULT_K, Similar
from backend import each, folder, needed, number, response


class TritonPythonModel:
    """movie_id INT64[1]; k INT32[1] (optional) -> movie_id INT64[k], score FP32[k]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.similar = Similar(folder(args))

    def execute(self, requests: list) -> list:
        return each(self.answer, requests)

    def answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        movies, scores = self.similar.similar(int(needed(request, "movie_id")[0]), number(request, "k", DEFAULT_K))
        return response(movie_id=movies, score=scores)
