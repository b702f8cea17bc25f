"""Where a server listens."""

import errno
import random
import socket
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError

LOOPBACK = "127.0.0.1"
GRPC_PORT = 8001
DEFAULT_URL = f"{LOOPBACK}:{GRPC_PORT}"
ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # and at which address this machine reaches it
LARGEST_PORT = 65535
PRIVATE_PORTS = (15_000, 32_000)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True)
class Ports:
    """A server's ports and the address that it listens on, IPv4, IPv6 or a name.

    Attributes:
        grpc: 0 for one that the system chooses.
        http, metrics: 0 where they are off.
    """

    grpc: int = GRPC_PORT
    http: int = 0
    metrics: int = 0
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """`host:port` at which this machine reaches its gRPC; an IPv6 address stands in brackets."""
        return address(ANY_ADDRESS.get(self.host, self.host), self.grpc)

    def check(self) -> None:
        """
        Raises:
            UserError: a port is taken, or is not a port, or the host is not an address of this machine.
        """
        wanted = [port for port in (self.grpc, self.http, self.metrics) if port]
        if len(set(wanted)) < len(wanted):
            raise UserError("the gRPC, HTTP and metrics ports must differ")
        for port in wanted:
            if not 0 < port <= LARGEST_PORT:
                raise UserError(f"{port} is not a port; choose one from 1 to {LARGEST_PORT}")
        for port in wanted or [0]:
            try:
                _bind(self.host, port)
            except socket.gaierror as error:
                raise UserError(f"{self.host!r} is not an address to listen on: {error.strerror}") from None
            except (OSError, UnicodeError) as error:
                reason = str(getattr(error, "strerror", None) or error).lower()
                if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
                    raise UserError(f"this machine has no address {self.host}; choose another --host") from None
                raise UserError(
                    f"port {port} of {self.host} cannot be used ({reason}); stop what uses it, or choose another"
                ) from None


def address(host: str, port: int) -> str:
    """`host:port` as gRPC takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port() -> int:
    """A loopback port that is not in use at the moment."""
    return _bind(LOOPBACK, 0)


def private_port() -> int:
    """A free loopback port for a server that is started again and again on it.

    It is not one that the system gives to outgoing connections: one of them could take it while the server is down. A
    client that tries to reach the server then would even connect to itself.
    """
    with_name = EPHEMERAL.read_text().split() if EPHEMERAL.exists() else ["32768"]
    first, last = PRIVATE_PORTS
    for port in random.sample(range(first, min(last, int(with_name[0]))), 50) if int(with_name[0]) > last else ():
        try:
            return _bind(LOOPBACK, port)
        except OSError:
            continue
    return free_port()


def is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port."""
    try:
        _bind(LOOPBACK, port)
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> int:
    """Binds a socket for a moment, and returns its port."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        return int(probe.getsockname()[1])
