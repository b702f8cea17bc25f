"""Who may ask a server, and for what: of the front door TLS and a secret, of Triton a secret that only we know."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from ensemble.client import Access, check_secret
from ensemble.headers import CANARY_HEADER, SECRET_HEADER
from ensemble.server import certificates

WITH_SECRET = "inference,metadata,model-config,statistics"  # health stays open
FORBIDDEN = "model-repository,shared-memory,trace,logging"
FORBIDDEN_HEADER = "marquee-forbidden"  # its value is random, so that no request carries it


@dataclass(frozen=True)
class ServerAccess:
    """What a server asks of its clients; by default nothing, and no TLS.

    Attributes:
        secret: what every request must carry; empty for none.
        certificate, key: PEM files of the server's certificate, for TLS.
        client_ca: PEM file of the root certificates that a client's must come from (mutual TLS).
    """

    secret: str = ""
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def check(self) -> None:
        """
        Raises:
            UserError: the secret cannot be sent, or a file cannot be used.
        """
        check_secret(self.secret)
        if (self.certificate is None) != (self.key is None):
            raise UserError("a certificate needs its key, and a key its certificate; give both")
        if self.certificate is not None and self.key is not None:
            certificates.check(self.certificate, self.key, self.client_ca)
        elif self.client_ca is not None:
            raise UserError("certificates are asked of clients only with TLS; give the server's certificate too")


@dataclass(frozen=True)
class Inside(Access):
    """How the supervisor asks: what it asks is counted apart."""

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, CANARY_HEADER: "1"}


def restrictions(secret: str, http: bool = False) -> tuple[list[str], list[str]]:
    """Triton's arguments that keep others out, and the secret words in them.

    Triton takes a secret as an argument only. It is erased from `/proc/<pid>/cmdline` as soon as Triton has read it, so
    that users of the same machine can see it briefly at each start (permanently where the kernel forbids ptrace).

    Args:
        secret: what every request must carry but those after its health; empty for none.
        http: whether it listens for HTTP, too.
    """
    unguessable = secrets.token_urlsafe(32)  # never given out: model control runs any Python that it is given
    hidden = [unguessable]
    demands = [f"{FORBIDDEN}:{FORBIDDEN_HEADER}={unguessable}"]
    if secret:
        hidden.append(secret)
        demands.append(f"{WITH_SECRET}:{SECRET_HEADER}={secret}")
    flags = ["--grpc-restricted-protocol", *(["--http-restricted-api"] if http else [])]
    return [f"{flag}={demand}" for flag in flags for demand in demands], hidden


def hide(pid: int, words: list[str]) -> bool:
    """Overwrites words in the command line of a process that this one started.

    Returns:
        Whether they are gone: False where the kernel forbids it.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start, end = int(stat[45]), int(stat[46])  # arg_start and arg_end of proc(5)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            for word in words:
                arguments = arguments.replace(word.encode(), b"*" * len(word))
            memory.seek(start)
            memory.write(arguments)
    except OSError:
        return False
    return True
