"""Why a request gets no answer."""

import grpc


class Refusal(Exception):
    """
    Attributes:
        code: the status that the client gets.
        sentence: what was wrong, where, and what to do.
        reason: one word for the metrics, one of `REASONS`.
    """

    def __init__(self, code: grpc.StatusCode, sentence: str, reason: str):
        super().__init__(sentence)
        self.code, self.sentence, self.reason = code, sentence, reason


REASONS = (
    "name",  # of a model or a tensor
    "type",
    "shape",
    "bytes",  # a tensor's content does not fit its shape, or a body cannot be read
    "limit",
    "secret",
    "busy",
    "deadline",
    "unavailable",
    "triton",  # refused by the model itself
)


def bad(sentence: str, reason: str) -> Refusal:
    """The client's mistake."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, sentence, reason)
