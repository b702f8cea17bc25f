"""Why the front door does not answer a request."""

import grpc


class Refusal(Exception):
    """A request that gets an error instead of an answer.

    Args:
        code: gRPC's status code; the HTTP service maps it to a status of HTTP.
        sentence: what the client reads.
        reason: the label of the metric `marquee_refusals_total`: name, type, shape, bytes, limit, secret, busy,
            deadline, unavailable or triton.
    """

    def __init__(self, code: grpc.StatusCode, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.reason = reason
