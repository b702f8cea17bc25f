"""Asks a running server whether it answers, and needs no file of its run: for systemd, Docker and Kubernetes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import arguments
from ensemble.client import Access, TimedOutError, connection, ids_tensor, tensor
from ensemble.headers import CANARY_HEADER

UNKNOWN = {"INT64": -1, "BYTES": ""}  # an id that hardly a user or movie has, by the type of ids
SHED = "RESOURCE_EXHAUSTED"
Answer = TypeVar("Answer")


class NotReadyError(UserError):
    """The server does not answer as it should; not a mistake in the arguments."""


class SheddingError(NotReadyError):
    """The server answers, and sheds load."""


@dataclass(frozen=True)
class Readiness:
    """What answered.

    Attributes:
        models: the names of the models.
        versions: the versions that they answered with; two while a server switches.
    """

    models: tuple[str, ...]
    versions: tuple[str, ...]


def live(url: str, access: Access, timeout: float) -> None:
    """Asks whether anything answers: no model, and no secret is needed.

    Args:
        url: `host:port` of the server's gRPC.
        access: what the server asks of its clients.
        timeout: seconds.

    Raises:
        NotReadyError: nothing answers in time; `SheddingError` where the server sheds even this question.
        UserError: an argument is not what it must be, or a file cannot be used.
    """
    with _asking(url, access, timeout) as asker:
        asker.ask(lambda seconds: asker.server.is_server_live(headers=asker.headers, client_timeout=seconds))


def ready(url: str, access: Access, timeout: float) -> Readiness:
    """Asks `score` and `recommend` for an unknown user, and `similar` for a movie that `recommend` named.

    Args:
        url: `host:port` of the server's gRPC.
        access: what the server asks of its clients.
        timeout: seconds for all questions together.

    Raises:
        NotReadyError: a model does not answer, or not as it must; `SheddingError` where the server sheds a question.
        UserError: an argument is not what it must be, or a file cannot be used.
    """
    k = tensor("k", [1], np.int32)
    with _asking(url, access, timeout) as asker:
        kinds = asker.inputs("score")
        user, movie = (
            ids_tensor(name, arguments.one_id(name, UNKNOWN[kinds.get(name, "INT64")]))
            for name in ("user_id", "movie_id")
        )
        asker.infer("score", [user, movie], "score")
        named = asker.infer("recommend", [user, k], "movie_id")
        asker.infer("similar", [ids_tensor("movie_id", named), k], "movie_id")
        return Readiness(tuple(asker.versions), tuple(sorted(set(asker.versions.values()), key=int)))


class _Asker:
    """Questions over one connection, all within one timeout.

    Attributes:
        model: the model that is being asked.
        versions: the version that each model has answered with.
    """

    def __init__(self, server: grpc.InferenceServerClient, access: Access, timeout: float):
        self.server = server
        self.headers = {**access.headers, CANARY_HEADER: "1"}  # counted apart from clients' requests
        self.deadline = time.monotonic() + timeout
        self.model = ""
        self.versions: dict[str, str] = {}

    def ask(self, question: Callable[[float], Answer]) -> Answer:
        """Calls `question` with the seconds that are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimedOutError("no time was left for it")
        try:
            return question(left)
        except InferenceServerException as error:
            if SHED not in str(error.status()):
                raise
            raise SheddingError(f"busy: {' '.join(str(error.message()).split())}") from None

    def inputs(self, model: str) -> dict[str, str]:
        """The type of each input of a model."""
        self.model = model
        said = self.ask(lambda left: self.server.get_model_metadata(model, headers=self.headers, client_timeout=left))
        return {one.name: one.datatype for one in said.inputs}

    def infer(self, model: str, inputs: Sequence[grpc.InferInput], output: str) -> np.ndarray:
        """The one value of an output, [1]."""
        self.model = model
        answer = self.ask(
            lambda left: self.server.infer(model, list(inputs), headers=self.headers, client_timeout=left)
        )
        self.versions[model] = answer.get_response().model_version
        found = answer.as_numpy(output)
        if found is None or found.shape != (1,) or (found.dtype.kind == "f" and not np.isfinite(found).all()):
            raise NotReadyError(f"its {output} is {'missing' if found is None else found.tolist()!s:.60}")
        return found


@contextmanager
def _asking(url: str, access: Access, timeout: float) -> Iterator[_Asker]:
    """The errors of `ready`: those before the block are the arguments', those in it the server's."""
    seconds = arguments.seconds(timeout)
    access.connect(arguments.address(url)).close()  # reads the files, and connects to nothing
    asker = None
    try:
        with connection(url, access, seconds) as server:
            asker = _Asker(server, access, seconds)
            yield asker
    except UserError as error:
        about = f"{asker.model}: " if asker and asker.model else ""
        kind = SheddingError if isinstance(error, SheddingError) else NotReadyError
        raise kind(f"{about}{error}") from None
