"""Who may ask a server, and for what: TLS, a shared secret, and what no client may use."""

import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from ensemble.client import SECRET_HEADER, Access, check_secret, tls_context

WITH_SECRET = "inference,metadata,model-config,statistics"  # health stays open, for load balancers
FORBIDDEN = "model-repository,shared-memory,trace,logging"
FORBIDDEN_HEADER = "marquee-forbidden"  # its value is random, so that no request carries it


@dataclass(frozen=True)
class ServerAccess:
    """What a server asks of its clients; by default nothing, and no TLS.

    Triton takes a secret as an argument only. It is erased from `/proc/<pid>/cmdline` as soon as Triton has read it, so
    that users of the same machine can see it briefly at each start (permanently where the kernel forbids ptrace).

    Attributes:
        secret: what every request must carry; empty for none. Metrics, which have their own port, do not need it.
        certificate, key: PEM files of the server's certificate, for TLS. HTTP then has to stay off, as Triton has no
            TLS there.
        client_ca: PEM file of the root certificate that a client's must come from (mutual TLS). The server's own must
            come from it too, as its supervisor uses that one as a client.
    """

    secret: str = ""
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def own(self) -> Access:
        """How the process that starts the server asks it: its certificate is trusted, whatever name it has.

        Raises:
            UserError: a file cannot be used, or Triton would not start with it.
        """
        check_secret(self.secret)
        if self.certificate is None and self.key is None:
            if self.client_ca is not None:
                raise UserError("certificates are asked of clients only with TLS; give the server's certificate too")
            return Access(self.secret)
        name = self._name()
        if self.client_ca is None:
            return Access(self.secret, self.certificate, server_name=name)
        return Access(self.secret, self.certificate, certificate=self.certificate, key=self.key, server_name=name)

    def flags(self, http: bool) -> tuple[list[str], list[str]]:
        """Triton's arguments, and the secret words in them.

        Raises:
            UserError: HTTP together with TLS.
        """
        if http and self.certificate:
            raise UserError("Triton's HTTP has no TLS; leave the HTTP port out, or the certificate")
        unguessable = secrets.token_urlsafe(32)  # never given out: model control runs any Python that it is given
        hidden = [unguessable]
        restrictions = [f"{FORBIDDEN}:{FORBIDDEN_HEADER}={unguessable}"]
        if self.secret:
            hidden.append(self.secret)
            restrictions.append(f"{WITH_SECRET}:{SECRET_HEADER}={self.secret}")
        flags = [f"--grpc-restricted-protocol={restriction}" for restriction in restrictions]
        if http:
            flags += [f"--http-restricted-api={restriction}" for restriction in restrictions]
        if self.certificate:
            flags += ["--grpc-use-ssl=1", f"--grpc-server-cert={self.certificate}", f"--grpc-server-key={self.key}"]
        if self.client_ca:
            flags += ["--grpc-use-ssl-mutual=1", f"--grpc-root-cert={self.client_ca}"]
        return flags, hidden

    def _name(self) -> str:
        """A name in the certificate, found by a handshake in memory, which also tests the other files.

        Raises:
            UserError: a file cannot be used, the certificate has expired, or has no name.
        """
        server = tls_context(ssl.PROTOCOL_TLS_SERVER, self.certificate, self.key, self.client_ca)
        if self.client_ca is None:
            client = tls_context(ssl.PROTOCOL_TLS_CLIENT, None, None, self.certificate)
            server.verify_mode = ssl.CERT_NONE
        else:
            client = tls_context(ssl.PROTOCOL_TLS_CLIENT, self.certificate, self.key, self.certificate)
            server.verify_mode = ssl.CERT_REQUIRED
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust the certificate itself, whatever signed it
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client_end = client.wrap_bio(to_client, to_server)
        unfinished = [client_end, server.wrap_bio(to_server, to_client, server_side=True)]
        try:
            while unfinished:
                unfinished = [end for end in unfinished if not _handshake_is_done(end)]
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or str(error.reason).lower().replace("_", " ")
            from_ca = f", as one from {self.client_ca}," if self.client_ca else ""
            raise UserError(f"the certificate {self.certificate}{from_ca} cannot be used: {reason}") from None
        names = (client_end.getpeercert() or {}).get("subjectAltName", ())
        if not names:
            raise UserError(f"the certificate {self.certificate} has no subjectAltName; clients would not accept it")
        return str(names[0][1]).replace("*", "any")


def _handshake_is_done(end: ssl.SSLObject) -> bool:
    """Takes a handshake as far as it goes; False where this end waits for the other."""
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


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
