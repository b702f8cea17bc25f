"""Asks a server over gRPC.

`Client` and its asyncio twin `AsyncClient` keep one connection; `score`, `recommend` and `similar` ask one question.
"""

from ensemble.client.access import UNLIMITED, Access, check_secret, tls_context
from ensemble.client.asking import SERVE, TIMEOUT
from ensemble.client.asynchronous import AsyncClient
from ensemble.client.errors import AwayError, BusyError, NoServerError, NoTlsError, NotServedError, TimedOutError
from ensemble.client.kept import Client
from ensemble.client.once import connection, infer, recommend, score, similar
from ensemble.client.questions import Recommendations, Scores, Similar, ids_tensor, tensor

__all__ = [
    "SERVE",
    "TIMEOUT",
    "UNLIMITED",
    "Access",
    "AsyncClient",
    "AwayError",
    "BusyError",
    "Client",
    "NoServerError",
    "NoTlsError",
    "NotServedError",
    "Recommendations",
    "Scores",
    "Similar",
    "TimedOutError",
    "check_secret",
    "connection",
    "ids_tensor",
    "infer",
    "recommend",
    "score",
    "similar",
    "tensor",
    "tls_context",
]
