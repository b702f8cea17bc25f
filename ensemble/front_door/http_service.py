"""KServe v2 in HTTP and JSON: the front door's second protocol, and the endpoint that Prometheus reads."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
from aiohttp import web
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from ensemble.front_door.access import has_secret, is_canary
from ensemble.front_door.http_bodies import SMALL, BodyLimits, BodyReader, BodyRefusal
from ensemble.front_door.http_server import SERVER, error_body, json_response, leave_unread
from ensemble.front_door.json_messages import plain, read_infer_body, write_infer_body
from ensemble.front_door.json_tensors import malformed, shown
from ensemble.front_door.metrics import CANARY, CLIENT, HTTP
from ensemble.front_door.refusal import Refusal
from ensemble.headers import SECRET_HEADER

LOG = logging.getLogger(__name__)
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
RETRY_SECONDS = {429: "1", 503: "1"}
LENGTH_HEADER = "Inference-Header-Content-Length"
LIVE, READY = "/v2/health/live", "/v2/health/ready"

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OnRefusal = Callable[[str, str, str], None]  # of model (empty where the path has none), reason, asker


class Door(Protocol):
    """What answers: the same for every protocol. A name's version is empty where the client gave none."""

    async def infer(
        self, request: ModelInferRequest, seconds: float | None, asker: str, *, protocol: str
    ) -> ModelInferResponse: ...
    async def live(self) -> bool: ...
    async def ready(self) -> bool: ...
    async def model_ready(self, name: str, version: str) -> bool: ...
    async def server_metadata(self) -> Message: ...
    async def model_metadata(self, name: str, version: str) -> Message: ...
    async def model_config(self, name: str, version: str) -> Message: ...
    async def statistics(self, name: str, version: str) -> Message: ...


@dataclass(frozen=True)
class HttpSettings:
    """
    Attributes:
        secret: what clients must send, but for the two questions about health; empty where none is needed.
        seconds: a client's patience where it does not say its own.
        body: limits of bodies.
    """

    secret: str = ""
    seconds: float = 30.0
    body: BodyLimits = field(default_factory=BodyLimits)


def application(door: Door, settings: HttpSettings, on_refusal: OnRefusal) -> web.Application:
    """KServe v2's endpoints for a door.

    Args:
        door: what answers.
        settings: secret, patience and limits.
        on_refusal: called with model, reason and asker for what is refused before the door is asked.
    """
    service = _Service(door, settings, on_refusal)
    made = _empty_application(settings.secret, {LIVE, READY}, on_refusal)
    made.on_cleanup.append(service.close)
    made.router.add_get("/v2", service.server, expect_handler=_expect)
    made.router.add_get(LIVE, service.live, expect_handler=_expect)
    made.router.add_get(READY, service.ready, expect_handler=_expect)
    made.router.add_get("/v2/models/stats", service.statistics, expect_handler=_expect)
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        made.router.add_get(path, service.model, expect_handler=_expect)
        made.router.add_get(f"{path}/ready", service.model_ready, expect_handler=_expect)
        made.router.add_get(f"{path}/config", service.config, expect_handler=_expect)
        made.router.add_get(f"{path}/stats", service.statistics, expect_handler=_expect)
        made.router.add_post(f"{path}/infer", service.infer, expect_handler=_expect)
    return made


def metrics_application(
    secret: str, folder: Path | None, registry: CollectorRegistry | None, on_refusal: OnRefusal
) -> web.Application:
    """The metrics, at `/metrics`.

    Args:
        secret: what Prometheus must send as `Authorization: Bearer`; empty where none is needed.
        folder: of prometheus_client's multiprocess mode: all processes' metrics are added up.
        registry: this process's metrics, where there is no folder.
        on_refusal: as above.
    """

    def text(accept: str) -> tuple[bytes, str]:
        asked = registry
        if folder is not None:
            asked = CollectorRegistry()
            MultiProcessCollector(asked, path=str(folder))
        assert asked is not None, "neither a folder nor a registry"
        encode, content_type = choose_encoder(accept)
        return encode(asked), content_type

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await asyncio.to_thread(text, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    made = _empty_application(secret, set(), on_refusal)
    made.router.add_get("/metrics", metrics, expect_handler=_expect)
    return made


class _Service:
    """The endpoints."""

    def __init__(self, door: Door, settings: HttpSettings, on_refusal: OnRefusal) -> None:
        self._door = door
        self._settings = settings
        self._on_refusal = on_refusal
        self._bodies = BodyReader(settings.body)
        self._converter = ThreadPoolExecutor(1, "tensors")

    async def close(self, _: web.Application) -> None:
        self._converter.shutdown(wait=False)

    async def live(self, _: web.Request) -> web.Response:
        return _yes_or_no({"live": await self._door.live()}, "the server is not live")

    async def ready(self, _: web.Request) -> web.Response:
        return _yes_or_no({"ready": await self._door.ready()}, "the server is not ready")

    async def model_ready(self, request: web.Request) -> web.Response:
        name, version = _model(request)
        ready = await self._door.model_ready(name, version)
        return _yes_or_no({"name": name, "ready": ready}, f"the model {shown(name)} is not ready")

    async def server(self, _: web.Request) -> web.Response:
        return json_response(plain(await self._door.server_metadata()))

    async def model(self, request: web.Request) -> web.Response:
        return json_response(plain(await self._door.model_metadata(*_model(request))))

    async def config(self, request: web.Request) -> web.Response:
        return json_response(plain(await self._door.model_config(*_model(request)))["config"])

    async def statistics(self, request: web.Request) -> web.Response:
        return json_response(plain(await self._door.statistics(*_model(request))))

    async def infer(self, request: web.Request) -> web.Response:
        name, version = _model(request)
        with self._bodies.place() as place:
            try:
                body = await self._bodies.read(request, place)
                length = _header_length(request)
                asked = await self._convert(len(body), read_infer_body, body, length, name, version)
                del body
            except Refusal as refusal:
                self._on_refusal(name, refusal.reason, _asker(request))
                raise
            seconds = self._settings.seconds if asked.seconds is None else asked.seconds
            answer = await self._door.infer(asked.request, seconds, _asker(request), protocol=HTTP)
            written, json_length = await self._convert(answer.ByteSize(), write_infer_body, answer, asked)
            headers = {"Content-Type": "application/json"}
            if json_length is not None:
                headers = {LENGTH_HEADER: str(json_length), "Content-Type": "application/octet-stream"}
            response = web.Response(body=written, headers=headers)
            await self._bodies.send(request, response, place)
            return response

    async def _convert(self, size: int, function: Callable[..., T], *arguments: object) -> T:
        """A function's result: at once where there are few bytes, otherwise from a thread, one after the other.

        While a large one is converted, small ones are answered: there is one thread to share the interpreter with.
        """
        if size <= SMALL:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._converter, function, *arguments)


def _empty_application(secret: str, open_paths: set[str], on_refusal: OnRefusal) -> web.Application:
    made = web.Application(middlewares=[_guard(secret, open_paths, on_refusal)])
    made.on_response_prepare.append(_name_the_server)
    return made


async def _name_the_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER


async def _expect(_: web.Request) -> None:
    """`Expect: 100-continue` is answered where the body is read: a refusal comes before the client sends it."""


def _guard(secret: str, open_paths: set[str], on_refusal: OnRefusal):  # type: ignore[no-untyped-def]
    """The middleware that asks for the secret and makes every error a sentence in JSON."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if secret and request.path not in open_paths and not has_secret(request.headers.items(), secret):
                on_refusal(request.match_info.get("model", ""), "secret", _asker(request))
                sentence = f"this server wants its secret in the header {SECRET_HEADER} or Authorization: Bearer"
                raise Refusal(grpc.StatusCode.UNAUTHENTICATED, sentence, "secret")
            response = await handler(request)
        except Refusal as refusal:
            status = refusal.status if isinstance(refusal, BodyRefusal) else STATUSES.get(refusal.code, 500)
            response = _error(status, refusal.sentence)
        except web.HTTPException as error:  # of the router
            allowed = f"; it takes {error.headers['Allow']}" if "Allow" in error.headers else ""
            response = _error(error.status, f"{request.method} {shown(request.path)}: {error.reason.lower()}{allowed}")
            response.headers.update({name: error.headers[name] for name in ("Allow",) if name in error.headers})
        except Exception:
            LOG.exception("an HTTP request failed")
            response = _error(500, "the front door failed; its log says why")
        leave_unread(request, response)
        return response

    return guard


def _error(status: int, sentence: str) -> web.Response:
    response = web.Response(status=status, text=error_body(sentence), content_type="application/json")
    if status in RETRY_SECONDS:
        response.headers["Retry-After"] = RETRY_SECONDS[status]
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _yes_or_no(answer: dict[str, object], no: str) -> web.Response:
    return json_response(answer) if all(answer.values()) else _error(503, no)


def _asker(request: web.Request) -> str:
    return CANARY if is_canary(request.headers.items()) else CLIENT


def _model(request: web.Request) -> tuple[str, str]:
    """The model's name and version in the path.

    Raises:
        Refusal: they are not text.
    """
    name, version = (request.match_info.get(part, "") for part in ("model", "version"))
    try:
        f"{name}{version}".encode()
    except UnicodeEncodeError:
        raise Refusal(grpc.StatusCode.NOT_FOUND, "the model's name is not UTF-8", "name") from None
    return name, version


def _header_length(request: web.Request) -> int | None:
    """How many bytes of the body are JSON; None where all are.

    Raises:
        Refusal: the header is not a number.
    """
    given = request.headers.get(LENGTH_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise malformed(f"{LENGTH_HEADER} must be a number of bytes, not {shown(given)}", "bytes")
    return int(given)
