"""What Triton's models have in common: the files they load, and how a client's mistake is told.

`export` copies this file next to each model's `model.py`.
"""

from pathlib import Path

import triton_python_backend_utils as pb_utils  # the Python backend's own
from answers import Answers, BadRequest


class AnsweringModel:
    """A Triton Python model over `Answers`; a model of its own says in `answer` what it makes of a request."""

    def initialize(self, args: dict[str, str]) -> None:
        self.answers = Answers(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list) -> list:
        return [self._respond(request) for request in requests]

    def answer(self, request: "pb_utils.InferenceRequest") -> "list[pb_utils.Tensor]":
        """The output tensors.

        Raises:
            BadRequest: the client's mistake, answered with INVALID_ARGUMENT and its sentence.
        """
        raise TypeError(f"{type(self).__name__} answers nothing")

    def _respond(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        try:
            return pb_utils.InferenceResponse(self.answer(request))
        except BadRequest as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
