"""Who may ask a server, and for what: TLS, a shared secret, and what is closed to everybody."""

import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from ensemble.client import SECRET_HEADER, Access, check_secret, tls_context

WITH_SECRET = "inference,metadata,model-config,statistics"  # health stays open, for load balancers
FOR_NOBODY = "model-repository,shared-memory,trace,logging"


@dataclass(frozen=True)
class ServerAccess:
    """What a server asks of its clients; as it stands, nothing, and no TLS.

    Triton takes a secret as an argument only. It is wiped from `/proc/<pid>/cmdline` as soon as Triton has read it, so
    that users of the same machine could see it for a moment at each start (for good where the kernel forbids ptrace).

    Attributes:
        secret: what every request must carry; empty for none. Metrics, which have a port of their own, do not ask it.
        certificate, key: PEM files of the server's certificate, for TLS. HTTP then has to stay off: Triton's has none.
        client_ca: PEM file of the root certificate that a client's must come from (mutual TLS); the server's own
            certificate too, as its supervisor asks with that one.
    """

    secret: str = ""
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def own(self) -> Access:
        """How whoever started the server asks it: its own certificate is trusted, under whatever name it has.

        Raises:
            UserError: a file cannot be used, or Triton would not come up with it.
        """
        check_secret(self.secret)
        if self.certificate is None and self.key is None:
            if self.client_ca is not None:
                raise UserError("certificates are asked of clients only with TLS; give the server's certificate too")
            return Access(self.secret)
        name = self._name()
        mutual = self.client_ca is not None
        return Access(
            self.secret, self.certificate, self.certificate if mutual else None, self.key if mutual else None, name
        )

    def flags(self, http: bool) -> tuple[list[str], list[str]]:
        """Triton's arguments, and which words in them nobody else may read.

        Raises:
            UserError: HTTP together with TLS.
        """
        if http and self.certificate:
            raise UserError("Triton's HTTP has no TLS; leave the HTTP port out, or the certificate")
        hidden = [secrets.token_urlsafe(32)]  # known to nobody: model control runs any Python that it is given
        rules = [f"{FOR_NOBODY}:nobody={hidden[0]}"]
        if self.secret:
            hidden.append(self.secret)
            rules.append(f"{WITH_SECRET}:{SECRET_HEADER}={self.secret}")
        flags = [f"--grpc-restricted-protocol={rule}" for rule in rules]
        if http:
            flags += [f"--http-restricted-api={rule}" for rule in rules]
        if self.certificate:
            flags += ["--grpc-use-ssl=1", f"--grpc-server-cert={self.certificate}", f"--grpc-server-key={self.key}"]
        if self.client_ca:
            flags += ["--grpc-use-ssl-mutual=1", f"--grpc-root-cert={self.client_ca}"]
        return flags, hidden

    def _name(self) -> str:
        """A name that the certificate is made out to, found by a handshake in memory, which tries everything else too.

        Raises:
            UserError: a file cannot be used, the certificate has run out, or has no name.
        """
        server = tls_context(ssl.PROTOCOL_TLS_SERVER, self.certificate, self.key, self.client_ca)
        mutual = self.client_ca is not None
        client = tls_context(
            ssl.PROTOCOL_TLS_CLIENT, *((self.certificate, self.key) if mutual else (None, None)), self.certificate
        )
        server.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself, whoever signed it
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
        asked = ends[0]
        try:
            while ends:
                ends = [end for end in ends if not _shaken(end)]
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or str(error.reason).lower().replace("_", " ")
            from_ca = f", as one from {self.client_ca}," if mutual else ""
            raise UserError(f"the certificate {self.certificate}{from_ca} cannot be used: {reason}") from None
        names = (asked.getpeercert() or {}).get("subjectAltName", ())
        if not names:
            raise UserError(f"the certificate {self.certificate} has no subjectAltName; clients would not accept it")
        return str(names[0][1]).replace("*", "any")


def _shaken(end: ssl.SSLObject) -> bool:
    """Whether this end of a handshake is done; else it waits for the other."""
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def hide(pid: int, words: list[str]) -> bool:
    """Overwrites words in the command line of a process that this one started.

    Returns:
        Whether they are gone; not where the kernel forbids it.
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
