"""Triton's `similar`."""

import triton_python_backend_utils as pb_utils  # the Python backend's own

from .backend import optional_int, required_input, respond_to_each, response, version_folder
from .limits import DEFAULT_K
from .similar_movies import SimilarMovies


class TritonPythonModel:
    """movie_id INT64[1]; k INT32[1] (optional) -> movie_id INT64[k], score FP32[k]. Ids that are text are STRING."""

    def initialize(self, args: dict[str, str]) -> None:
        self.similar_movies = SimilarMovies(version_folder(args))

    def execute(self, requests: list) -> list:
        return respond_to_each(self.answer, requests)

    def answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        movies, scores = self.similar_movies.similar(
            required_input(request, "movie_id")[0], optional_int(request, "k", DEFAULT_K)
        )
        return response(movie_id=movies, score=scores)
