"""Triton's `scorer`, behind the ensemble `score`."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own

from .backend import error_response, optional_text, required_input, response, version_folder
from .limits import BadRequest
from .scores import Scored, Scores

NOT_ONE_ROW = "this model answers for `score`, which sends it requests of one row; ask `score`"


class TritonPythonModel:
    """user_id and movie_id INT64[1, n] (text: STRING), model STRING[1, 1] (optional)
    -> score FP32[1, n], known BOOL[1, n]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.scores = Scores(version_folder(args))

    def execute(self, requests: list) -> list:
        questions = [self.question(request) for request in requests]
        answers = iter(self.scores.score_batch([one for one in questions if not isinstance(one, BadRequest)]))
        return [self.respond(one if isinstance(one, BadRequest) else next(answers)) for one in questions]

    def question(self, request: "pb_utils.InferenceRequest") -> tuple[np.ndarray, np.ndarray, str] | BadRequest:
        """User ids, movie ids and model of a request, or why it is refused."""
        try:
            user_id, movie_id = required_input(request, "user_id"), required_input(request, "movie_id")
        except BadRequest as error:
            return error
        if len(user_id) != 1 or len(movie_id) != 1:
            return BadRequest(NOT_ONE_ROW)
        return user_id[0], movie_id[0], optional_text(request, "model")

    def respond(self, answer: Scored | BadRequest) -> "pb_utils.InferenceResponse":
        """The answer as tensors of one row, or the error."""
        if isinstance(answer, BadRequest):
            return error_response(answer)
        score, known = answer
        return response(score=score[None], known=known[None])
