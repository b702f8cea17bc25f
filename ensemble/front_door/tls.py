"""The front door's TLS. A certificate that is renewed in its file is used for the connections after that."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc

from ensemble.front_door.settings import FrontDoorSettings


def credentials(settings: FrontDoorSettings) -> grpc.ServerCredentials | None:
    """For gRPC; None where the settings have no certificate."""
    if not settings.certificate:
        return None
    renewed = _renewals(settings)
    first = renewed()
    assert first is not None
    return grpc.dynamic_ssl_server_credentials(first, renewed, require_client_authentication=bool(settings.client_ca))


def context(settings: FrontDoorSettings) -> ssl.SSLContext | None:
    """For HTTP; None where the settings have no certificate."""
    if not settings.certificate:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(settings.certificate, settings.key)
    if settings.client_ca:
        made.load_verify_locations(settings.client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _renewals(settings: FrontDoorSettings) -> Callable[[], "grpc.ServerCertificateConfiguration | None"]:
    """A function that gives the certificates where they have changed since its last call, else None."""
    paths = [Path(path) for path in (settings.key, settings.certificate, settings.client_ca) if path]
    seen: list[tuple[int, int]] = []

    def renewed() -> "grpc.ServerCertificateConfiguration | None":
        try:
            stamps = [(found.st_mtime_ns, found.st_ino) for found in map(os.stat, paths)]
            if stamps == seen:
                return None
            key, certificate, *ca = (path.read_bytes() for path in paths)
        except OSError:  # it is just being replaced
            if not seen:
                raise
            return None
        seen[:] = stamps
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca[0] if ca else None)

    return renewed
