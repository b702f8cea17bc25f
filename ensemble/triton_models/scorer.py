"""Triton's `scorer`: becomes `scorer/<version>/model.py` in the exported repository, behind the ensemble `score`."""

import numpy as np
import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import BadRequest, Scores
from backend import folder, needed, refusal, response, text

ROWS = "this model answers for `score`, which sends it requests of one row; ask `score`"


class TritonPythonModel:
    """user_id and movie_id INT64[1, n], model STRING[1, 1] (optional) -> score FP32[1, n], known BOOL[1, n]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.scores = Scores(folder(args))

    def execute(self, requests: list) -> list:
        rows = [self.row(request) for request in requests]
        answers = iter(self.scores.score_together([row for row in rows if not isinstance(row, BadRequest)]))
        return [self.told(row if isinstance(row, BadRequest) else next(answers)) for row in rows]

    def row(self, request: "pb_utils.InferenceRequest") -> tuple[np.ndarray, np.ndarray, str] | BadRequest:
        """What is asked, or why it cannot be."""
        try:
            user, movie = needed(request, "user_id"), needed(request, "movie_id")
        except BadRequest as error:
            return error
        return BadRequest(ROWS) if len(user) != 1 or len(movie) != 1 else (user[0], movie[0], text(request, "model"))

    def told(self, answer: tuple[np.ndarray, np.ndarray] | BadRequest) -> "pb_utils.InferenceResponse":
        """The answer as tensors of one row, or the refusal."""
        if isinstance(answer, BadRequest):
            return refusal(answer)
        score, known = answer
        return response(score=score[None], known=known[None])
