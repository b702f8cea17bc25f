"""What a client shows to a server, and what it expects of it: a secret, certificates."""

import ssl
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio

from core.errors import UserError
from ensemble.headers import GRPC_PREFIX, SECRET_HEADER

# tritonclient's own defaults, which other channel_args would replace.
UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
# A kept channel connects again soon after a restart; gRPC's own pauses grow to two minutes.
RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Channels to one address would else share a connection, and the pauses of each other's failures.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class Access:
    """What a client shows to a server, and what it expects of it; by default, plain gRPC to an open server.

    Attributes:
        secret: the shared secret that the server was started with; empty for none.
        ca: PEM file of the root certificate that the server's must come from; TLS is used where it is given.
        certificate, key: PEM files of the client's own certificate, for a server that asks for one (mutual TLS).
        server_name: the name in the server's certificate, where it is not the one in the URL.
    """

    secret: str = ""
    ca: Path | None = None
    _: KW_ONLY
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each gRPC request."""
        return {GRPC_PREFIX + SECRET_HEADER: self.secret} if self.secret else {}

    def connect(self, url: str) -> grpc.InferenceServerClient:
        """A connection, made when it is first used.

        Raises:
            UserError: a file cannot be used, or one is missing that another needs.
        """
        return grpc.InferenceServerClient(url, **self.channel())

    def connect_async(self, url: str) -> grpc_aio.InferenceServerClient:
        """The same for asyncio, called in the event loop that is going to use it.

        Raises:
            UserError: as `connect`.
        """
        return grpc_aio.InferenceServerClient(url, **self.channel())

    def channel(self) -> dict[str, Any]:
        """The arguments of tritonclient's two clients.

        Raises:
            UserError: as `connect`.
        """
        check_secret(self.secret)
        if self.ca is None:
            if self.certificate or self.key:
                raise UserError("a client certificate is for TLS; give the server's root certificate too")
            return {"channel_args": [*UNLIMITED, *RECONNECT]}
        tls_context(ssl.PROTOCOL_TLS_CLIENT, self.certificate, self.key, self.ca)
        name = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return {
            "ssl": True,
            "root_certificates": self.ca,
            "certificate_chain": self.certificate,
            "private_key": self.key,
            "channel_args": [*UNLIMITED, *RECONNECT, *name],
        }


OPEN = Access()


def check_secret(secret: str) -> None:
    """
    Raises:
        UserError: the secret cannot be sent as a header.
    """
    if not isinstance(secret, str):
        raise UserError("a secret must be a string")
    if not all("!" <= letter <= "~" for letter in secret):
        raise UserError("a secret may have ASCII letters, digits and punctuation, and no space")


def tls_context(side: int, certificate: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """Loads PEM files that gRPC is going to use, as gRPC does not say what is wrong with them.

    Args:
        side: `ssl.PROTOCOL_TLS_CLIENT` or `ssl.PROTOCOL_TLS_SERVER`.

    Raises:
        UserError: a file cannot be read, is not PEM, is missing beside the other, or is not the key of the certificate.
    """
    if (certificate is None) != (key is None):
        raise UserError("a certificate needs its key, and a key its certificate; give both")
    context = ssl.SSLContext(side)
    for path in filter(None, (certificate, key, ca)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {str(error.strerror).lower()}") from None
        except (TypeError, ValueError):
            raise UserError(f"{path!r:.60} is not the path of a PEM file") from None
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise UserError(f"{ca} does not hold a certificate in PEM format") from None
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")  # or it would ask the terminal
    except ssl.SSLError as error:
        reason = str(error.reason or "the key may have a password").lower().replace("_", " ")
        raise UserError(f"{certificate} and {key} are not a certificate and its key: {reason}") from None
    return context
