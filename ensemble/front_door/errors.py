"""Triton's refusals, whichever way it was asked."""

import grpc

# How a call ends when Triton does. Nothing here cancels one, so it is Triton that gave up a call that was CANCELLED.
ENDED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class TritonError(Exception):
    """
    Attributes:
        code: the status.
        said: Triton's message, on one line.
    """

    def __init__(self, code: grpc.StatusCode, said: str):
        super().__init__(said)
        self.code, self.said = code, said
