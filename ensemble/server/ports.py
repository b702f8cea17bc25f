"""Where a server listens."""

import socket
from dataclasses import dataclass

from core.errors import UserError

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"
GRPC_PORT = 8001
DEFAULT_URL = f"{LOOPBACK}:{GRPC_PORT}"


@dataclass(frozen=True)
class Ports:
    """A server's ports and the address that it listens on; HTTP and metrics are off where their port is 0."""

    grpc: int = GRPC_PORT
    http: int = 0
    metrics: int = 0
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """`host:port` at which this machine reaches its gRPC."""
        return f"{LOOPBACK if self.host == ANY_ADDRESS else self.host}:{self.grpc}"

    def check(self) -> None:
        """
        Raises:
            UserError: a port is taken, or is not a port.
        """
        wanted = [port for port in (self.grpc, self.http, self.metrics) if port]
        if len(set(wanted)) < len(wanted):
            raise UserError("the gRPC, HTTP and metrics ports must differ")
        for port in wanted:
            if not 0 < port < 65536:
                raise UserError(f"{port} is not a port; choose one from 1 to 65535")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    reason = str(error.strerror).lower()
                    raise UserError(
                        f"port {port} of {self.host} cannot be used ({reason}); stop what uses it, or choose another"
                    ) from None


def free_port() -> int:
    """A loopback port that is not in use at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
