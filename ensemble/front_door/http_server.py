"""aiohttp's server with the front door's bounds: connections, headers, errors in JSON, and bodies that are not read."""

import asyncio
import json
import logging
import ssl
from asyncio import BaseTransport, Transport
from typing import Any, cast

from aiohttp import web

LOG = logging.getLogger(__name__)
SERVER = "marquee"  # instead of the versions of Python and aiohttp
CONNECTIONS = 512  # at once in one process; each may hold half a megabyte that was received and not yet read
IDLE_SECONDS = 75.0  # for a connection's next request to come, headers and all
LINGER_SECONDS = 2.0  # for a client to read its refusal while it still sends
DRAIN_SECONDS = 2.0  # at the end, in which each connection is closed after its next response
SHUTDOWN_SECONDS = 30.0
# Received at a time. aiohttp stops its parser after a sixteenth of it in chunks: 4,096, a few milliseconds' work.
READ_BYTES = 2**16
MOST_UNREAD = 2**16  # bytes of a refused body that are read to its end, so that the connection can be kept


def error_body(sentence: str) -> str:
    """What every error says, as KServe's protocol wants it."""
    return json.dumps({"error": sentence})


class _Discard:
    """In the place of HTTP's parser, for what a client goes on sending after its refusal."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        return False, b""

    def feed_eof(self) -> None:
        pass


def leave_unread(request: web.Request, response: web.StreamResponse) -> None:
    """Closes a connection after its response where too much of the request's body is unread, without parsing that."""
    length = request.content_length
    if request.content.is_eof() or (length is not None and length <= MOST_UNREAD):
        return
    response.force_close()
    if not request.protocol._payload_parser:
        request.protocol.set_parser(_Discard())  # type: ignore[arg-type]


class _Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

    def connection_made(self, transport: BaseTransport) -> None:
        assert self._manager is not None
        if len(self._manager.connections) < CONNECTIONS:
            super().connection_made(transport)
            return
        body = error_body(f"this server has {CONNECTIONS} connections already; try again")
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close"
        self.close()
        transport = cast(Transport, transport)  # also uvloop's, which is of no class of asyncio's
        transport.write(f"{head}\r\nContent-Type: application/json\r\n\r\n{body}".encode())
        transport.close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP (400), and a fault of ours (500), in JSON and without a traceback."""
        if status == 400:
            what = (message or "").strip().partition("\n")[0][:120].rstrip(":") or "it cannot be parsed"
            sentence = f"this is not a valid HTTP request: {what}"
        else:
            LOG.error("an HTTP request failed", exc_info=exc)
            sentence = "the front door failed; its log says why"
        if request.writer.output_size > 0:
            raise ConnectionError("a response is on its way already")
        response = web.Response(status=status, text=error_body(sentence), content_type="application/json")
        response.headers["Server"] = SERVER
        response.force_close()
        return response


class _Server(web.Server):
    """Makes a `_Connection` for each client."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class HttpRunner(web.AppRunner):
    """
    Attributes:
        is_ending: whether each connection is closed after its next response.
    """

    is_ending = False

    async def close_after(self, _: web.Request, response: web.StreamResponse) -> None:
        """Says `Connection: close` at the end, so that no client sends another request to what closes just then."""
        if self.is_ending:
            response.force_close()
            response.headers["Connection"] = "close"  # aiohttp has written its headers by now

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=True,  # who closes the connection waits no longer
            access_log=None,
            auto_decompress=False,  # aiohttp's own inflating has no bound
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BYTES,
        )


async def serve_http(
    application: web.Application,
    host: str,
    port: int,
    ssl_context: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> tuple[HttpRunner, int]:
    """Listens.

    Args:
        application: what answers.
        host: an address of IPv4 or IPv6.
        port: 0 asks the system for one.
        ssl_context: for TLS.
        reuse_port: other processes listen on the same port, and share the connections.

    Returns:
        The runner, for `stop_http`, and the port.

    Raises:
        OSError: it cannot listen there.
    """
    runner = HttpRunner(application, shutdown_timeout=SHUTDOWN_SECONDS)
    application.on_response_prepare.append(runner.close_after)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=ssl_context, reuse_port=reuse_port or None)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, site.port


async def stop_http(runner: HttpRunner) -> None:
    """Listens no more, has clients leave for another server, answers what is under way, and ends."""
    runner.is_ending = True
    for site in list(runner.sites):
        await site.stop()
    loop = asyncio.get_running_loop()
    until = loop.time() + DRAIN_SECONDS
    while runner.server and runner.server.connections and loop.time() < until:
        await asyncio.sleep(0.02)
    await runner.cleanup()


def json_response(value: Any, status: int = 200) -> web.Response:
    """A value as the body of a response."""
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")
