"""Everything that one worker listens on."""

import asyncio
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import REGISTRY

from ensemble.front_door import tls
from ensemble.front_door.door import Door
from ensemble.front_door.grpc_service import GrpcService, grpc_server
from ensemble.front_door.http_bodies import BodyLimits
from ensemble.front_door.http_server import HttpRunner, serve_http, stop_http
from ensemble.front_door.http_service import HttpSettings, application, metrics_application
from ensemble.front_door.metrics import HTTP, Metrics
from ensemble.front_door.settings import FrontDoorSettings
from ensemble.front_door.upstream import Upstream

GAUGE_SECONDS = 1.0
TRIM_EVERY = 10  # such times
# glibc's: gives the system back what was freed between pieces that are in use, after messages of megabytes.
TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
GRACE = 5.0  # seconds for what is under way at the end
BYTES_PER_ROW = 64  # that a request under way holds, at most: ids, copies of them, and answers
SHARED = True  # the ports: with other workers, and with the one that replaces this one


class Listeners:
    """Starts and stops them. Must be made in the event loop that serves.

    Args:
        settings: of the worker.
        holds: takes, every few seconds, the bytes of memory that are held beside what is under way.

    Attributes:
        grace: seconds for what is under way at the end.
    """

    def __init__(self, settings: FrontDoorSettings, holds: Callable[[int], None]):
        self.settings, self.holds, self.grace = settings, holds, GRACE
        self.metrics = Metrics()
        upstream = Upstream(
            settings.triton, settings.triton_headers, settings.triton_http, settings.triton_http_headers
        )
        self.door = Door(upstream, settings.limits, self.metrics)
        self.servers: list[Any] = []
        self.runners: list[HttpRunner] = []
        self.counting: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, int]:
        """Listens.

        Returns:
            The port of each protocol.

        Raises:
            OSError, RuntimeError: a port cannot be used.
        """
        settings, at_rest = self.settings, _private_memory()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        public = GrpcService(self.door, settings.secret)
        server, port = grpc_server(
            public, settings.limits, f"{host}:{settings.grpc}", tls.credentials(settings), SHARED
        )
        self.servers.append(server)
        if settings.private:
            private = GrpcService(self.door, settings.private_secret, trusted=True)
            self.servers.append(grpc_server(private, settings.limits, f"unix:{settings.private}", None, False)[0])
        for one in self.servers:
            await one.start()
        ports = {"grpc": port, **await self._listen_http()}
        self.counting = asyncio.ensure_future(self._count(at_rest))
        gc.freeze()  # what is there now stays; collections need not look at it
        return ports

    async def _listen_http(self) -> dict[str, int]:
        """HTTP and the metrics, where they are asked for."""
        settings, limits = self.settings, self.settings.limits
        http = HttpSettings(settings.secret, limits.seconds, BodyLimits(size=limits.bytes, seconds=limits.seconds))
        folder = Path(settings.metrics_folder) if settings.metrics_folder else None
        context = tls.context(settings)
        asked = {
            "http": (settings.http, lambda: application(self.door, http, self._refused)),
            "metrics": (
                settings.metrics,
                lambda: metrics_application(settings.secret, folder, REGISTRY, lambda *_: None),
            ),
        }
        found = {}
        for name, (port, make) in asked.items():
            if port is not None:
                runner, found[name] = await serve_http(make(), settings.host, port, context, SHARED)
                self.runners.append(runner)
        return found

    def _refused(self, model: str, reason: str, asker: str) -> None:
        self.door.refused(model, reason, asker, HTTP)

    def note(self, message: dict[str, Any]) -> None:
        """Takes a note of the supervisor.

        `{"triton": "host:port", "http": "host:port"}` says where a new Triton is, `{"grace": seconds}` how long what is
        under way may take at the end.

        Raises:
            ValueError: it is not a note.
        """
        if not isinstance(message, dict):
            raise ValueError(f"{message!r:.100} is not a note")
        if "triton" in message:
            self.door.upstream.move(str(message["triton"]), str(message.get("http", "")))
        elif "grace" in message:
            self.grace = float(message["grace"])
        elif self.settings.worker == 0:  # one counts for all
            self.metrics.note(message)

    async def stop(self) -> None:
        """Accepts nothing more, waits for what is under way, for `grace` seconds at most, and ends."""
        if self.counting is not None:
            self.counting.cancel()
        await asyncio.gather(
            *(one.stop(self.grace) for one in self.servers),
            *(asyncio.wait_for(stop_http(one), self.grace) for one in self.runners),
            return_exceptions=True,
        )
        await self.door.close(self.grace)

    async def _count(self, at_rest: int) -> None:
        """Says, from time to time, what waits and what is held, which is never said to be less than at rest."""
        while True:
            for _ in range(TRIM_EVERY):
                self.door.count_waiting()
                await asyncio.sleep(GAUGE_SECONDS)
            if TRIM is not None:
                TRIM(0)
            self.holds(max(at_rest, _private_memory() - BYTES_PER_ROW * self.door.schedule.rows))


def _private_memory() -> int:
    """Bytes."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared
