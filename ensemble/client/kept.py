"""One connection with a server, for many questions."""

import time
from collections.abc import Sequence
from types import TracebackType

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.access import OPEN, Access
from ensemble.client.asking import SERVE, TIMEOUT, Asking, Attempts
from ensemble.client.questions import (
    Answered,
    Id,
    Question,
    Recommendations,
    Request,
    Scores,
    Similar,
    recommendations_for,
    scores_of,
    similar_to,
)
from ensemble.triton_models.limits import DEFAULT_K


class Client:
    """A server of Marquee's, asked over one gRPC connection that is kept.

    Several threads may ask at once. A process that is forked has to make a client of its own. Nothing is sent before
    the first question, and `close`, or the end of a `with` block, ends the connection.

    A request that the server refuses because it is busy, or that meets no server, is sent again after a pause, until
    the time of its question is over. A server that has never answered this client is not waited for, unless `wait` says
    so: its address may be wrong. One that has answered before restarts. What is refused for its arguments is never sent
    again, and neither is what the server took and did not answer in time.

    Args:
        url: `host:port` of the server's gRPC; an IPv6 address in brackets.
        access: what the server asks for.
        timeout: seconds that a question may take, all its requests and pauses together.
        wait: seconds, of those, that a server is waited for that has not answered this client yet.
        command: the command line that starts a server, for the message.

    Raises:
        UserError: one of these is not what it must be. The questions raise it where an argument is wrong or the server
            refuses; `NoServerError` where there is none, `TimedOutError` where it does not answer in time, and
            `BusyError` where it has been too busy all that time.
    """

    def __init__(
        self,
        url: str,
        *,
        access: Access = OPEN,
        timeout: float = TIMEOUT,
        wait: float = 0.0,
        command: str = SERVE,
    ):
        self._asking = Asking(url, access=access, timeout=timeout, wait=wait, command=command)
        self._triton = access.connect(self._asking.url)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and with it what other threads still ask. May be called again."""
        self._asking.is_closed = True
        self._triton.close()

    def score(
        self, user_ids: Sequence[Id], movie_ids: Sequence[Id], model: str = "", *, timeout: float | None = None
    ) -> Scores:
        """Probabilities of (user, movie) pairs, any number of them: many are asked for in parts, one after the other.

        Args:
            user_ids, movie_ids: raw ids, [n] each: whole numbers in a list, an array, a Series or a tensor; text where
                a table's own are.
            model: a network such as `dlrm` or `ncf`; empty for the repository's default.
            timeout: seconds for all of it; the client's where it is None.

        Raises:
            UserError: as the class says.
        """
        return self._ask(scores_of(user_ids, movie_ids, model), timeout)

    def recommend(
        self,
        user_id: Id | None = None,
        k: int = DEFAULT_K,
        history: Sequence[Id] = (),
        model: str = "",
        strategy: str = "",
        *,
        timeout: float | None = None,
    ) -> Recommendations:
        """The best `k` movies for a user, without those that the user has rated or listed.

        Args:
            user_id: a raw MovieLens id; None for someone without one.
            history: movies that someone unknown likes, the latest last. Someone without id and history is recommended
                the most rated movies.
            model: a network such as `dlrm` or `ncf`; empty for the repository's default.
            strategy: `exact` or `two-stage`; empty for the network's default.
            timeout: seconds; the client's where it is None.

        Raises:
            UserError: as the class says.
        """
        return self._ask(recommendations_for(user_id, k, history, model, strategy), timeout)

    def similar(self, movie_id: Id, k: int = DEFAULT_K, *, timeout: float | None = None) -> Similar:
        """The `k` movies most like one.

        Args:
            movie_id: a raw MovieLens id.
            timeout: seconds; the client's where it is None.

        Raises:
            UserError: as the class says.
        """
        return self._ask(similar_to(movie_id, k), timeout)

    def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether a server says that it is ready; False where there is none, at once.

        Raises:
            UserError: the client is closed, or `timeout` is not a number of seconds.
        """
        seconds = Attempts(self._asking, timeout).left()
        try:
            return bool(self._triton.is_server_ready(self._asking.access.headers, client_timeout=seconds))
        except InferenceServerException:
            return False

    def _ask(self, question: Question[Answered], timeout: float | None) -> Answered:
        attempts = Attempts(self._asking, timeout)
        answer = None
        while True:
            try:
                request = question.send(answer)
            except StopIteration as done:
                result: Answered = done.value
                return result
            answer = self._send(request, attempts)

    def _send(self, request: Request, attempts: Attempts) -> grpc.InferResult:
        """The answer to a request, which is sent until there is one."""
        headers = self._asking.access.headers
        while True:
            seconds = attempts.left()
            try:
                answer = self._triton.infer(request.model, request.inputs, headers=headers, client_timeout=seconds)
            except InferenceServerException as error:
                pause = attempts.pause_after(error)
            except ValueError:  # gRPC's, where another thread has closed the connection
                self._asking.check()
                raise
            else:
                attempts.answered()
                return answer
            time.sleep(pause)
            self._asking.check()
