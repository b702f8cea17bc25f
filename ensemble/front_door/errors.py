"""Triton's refusals, whichever way it was asked."""

import grpc


class TritonError(Exception):
    """
    Attributes:
        code: the status.
        said: Triton's message, on one line.
    """

    def __init__(self, code: grpc.StatusCode, said: str):
        super().__init__(said)
        self.code, self.said = code, said
