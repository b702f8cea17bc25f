"""The client for asyncio."""

import asyncio
from collections.abc import Sequence
from types import TracebackType

import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
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


class AsyncClient:
    """`Client` for asyncio: the same arguments, questions, answers and errors, with `await` and `async with`.

    Many questions may be under way at once, all of them in the event loop that asks the first one. A cancelled `await`
    ends at once, and the server is told.

    Raises:
        UserError: as `Client`.
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
        access.channel()
        self._triton: grpc_aio.InferenceServerClient | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and cancels what is still asked. May be called again."""
        self._asking.is_closed = True
        if self._triton is not None:
            await self._triton.close()

    async def score(
        self, user_ids: Sequence[Id], movie_ids: Sequence[Id], model: str = "", *, timeout: float | None = None
    ) -> Scores:
        """As `Client.score`."""
        return await self._ask(scores_of(user_ids, movie_ids, model), timeout)

    async def recommend(
        self,
        user_id: Id | None = None,
        k: int = DEFAULT_K,
        history: Sequence[Id] = (),
        model: str = "",
        strategy: str = "",
        *,
        timeout: float | None = None,
    ) -> Recommendations:
        """As `Client.recommend`."""
        return await self._ask(recommendations_for(user_id, k, history, model, strategy), timeout)

    async def similar(self, movie_id: Id, k: int = DEFAULT_K, *, timeout: float | None = None) -> Similar:
        """As `Client.similar`."""
        return await self._ask(similar_to(movie_id, k), timeout)

    async def is_ready(self, *, timeout: float | None = None) -> bool:
        """As `Client.is_ready`."""
        seconds = Attempts(self._asking, timeout).left()
        try:
            ready = await self._connection().is_server_ready(self._asking.access.headers, client_timeout=seconds)
        except InferenceServerException:
            return False
        return bool(ready)

    def _connection(self) -> grpc_aio.InferenceServerClient:
        """Made in the event loop, as gRPC's channels belong to one."""
        if self._triton is None:
            self._triton = self._asking.access.connect_async(self._asking.url)
        return self._triton

    async def _ask(self, question: Question[Answered], timeout: float | None) -> Answered:
        attempts = Attempts(self._asking, timeout)
        answer = None
        while True:
            try:
                request = question.send(answer)
            except StopIteration as done:
                result: Answered = done.value
                return result
            answer = await self._send(request, attempts)

    async def _send(self, request: Request, attempts: Attempts) -> grpc.InferResult:
        """The answer to a request, which is sent until there is one."""
        headers = self._asking.access.headers
        while True:
            seconds = attempts.left()
            try:
                answer = await self._connection().infer(
                    request.model, request.inputs, headers=headers, client_timeout=seconds
                )
            except InferenceServerException as error:
                pause = attempts.pause_after(error)
            except Exception:  # gRPC's, where another task has closed the connection
                self._asking.check()
                raise
            else:
                attempts.answered()
                return answer
            await asyncio.sleep(pause)
            self._asking.check()
