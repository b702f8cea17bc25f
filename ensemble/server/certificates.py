"""Checks the files of a server's TLS before anything starts, as gRPC does not say what is wrong with them."""

import datetime
import os
import re
import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from core.errors import UserError, system_reason

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
WHOLE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----\n?|\Z)", re.DOTALL)
CERTIFICATE, PRIVATE_KEY = "CERTIFICATE", "PRIVATE KEY"
CURVES = ("secp256r1", "secp384r1")  # gRPC's TLS offers no signature with another one, nor with Ed25519
DER = b"\x30"  # the first byte of what is not PEM but the same in binary


def check(certificate: Path, key: Path, client_ca: Path | None = None) -> None:
    """
    Args:
        certificate: of the server, with the intermediate ones after it.
        key: of the first certificate.
        client_ca: root certificates that a client's must come from.

    Raises:
        UserError: a file cannot be read, lacks what it must hold, or would not be accepted; the message says which.
    """
    chain = _certificates(certificate)
    private = _private_key(key)
    if client_ca is not None:
        _certificates(client_ca)
    own = chain[0]
    keys = [_encoded(one.public_key()) for one in chain]
    public = _encoded(private.public_key())
    if public != keys[0]:
        if public in keys:
            number = keys.index(public) + 1
            raise UserError(f"{certificate}: the certificate of {key} is number {number} in it; it must be the first")
        raise UserError(f"{key} is not the key of the certificate in {certificate}")
    if not isinstance(private, rsa.RSAPrivateKey) and getattr(private, "curve", ec.SECP521R1()).name not in CURVES:
        raise UserError(f"{key} is of a kind that gRPC cannot use; make an RSA key, or one of the curve P-256 or P-384")
    now = datetime.datetime.now(datetime.timezone.utc)
    first, last = _validity(own)
    if last < now:
        raise UserError(f"the certificate {certificate} has expired ({last:%Y-%m-%d})")
    if first > now:
        raise UserError(f"the certificate {certificate} is not valid before {first:%Y-%m-%d}")
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names = x509.SubjectAlternativeName([])
    if not list(names):
        raise UserError(f"the certificate {certificate} has no subjectAltName; clients would not accept it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:  # a key that is too small, for example
        reason = str(error.reason or error).lower().replace("_", " ")
        raise UserError(f"{certificate} and {key} cannot be used: {reason}") from None


def _certificates(path: Path) -> list[x509.Certificate]:
    data = _read(path, CERTIFICATE)
    try:
        return [x509.load_pem_x509_certificate(block) for block in WHOLE.findall(data)]
    except ValueError:
        raise UserError(f"{path} has a CERTIFICATE block that cannot be read; create the file again") from None


def _private_key(path: Path) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    data = _read(path, PRIVATE_KEY)
    found = os.stat(path)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(f"the key {path} can be changed by other users; run: chmod 600 {path}")
    # As ssh does. Another owner has given it to this user, as a volume of secrets does.
    if found.st_uid == os.getuid() and found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise UserError(f"the key {path} can be read by other users; run: chmod 600 {path}")
    try:
        return serialization.load_pem_private_key(data, None)  # type: ignore[return-value]
    except TypeError:
        raise UserError(f"the key {path} has a password; give one without") from None
    except ValueError:
        raise UserError(f"{path} has a PRIVATE KEY block that cannot be read; create the file again") from None


def _read(path: Path, wanted: str) -> bytes:
    """A file that holds a PEM block of a kind."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {system_reason(error)}") from None
    except (TypeError, ValueError):
        raise UserError(f"{path!r:.60} is not the path of a PEM file") from None
    kinds = [kind.decode() for kind in BLOCK.findall(data)]
    if any(kind == wanted or (wanted == PRIVATE_KEY and kind.endswith(wanted)) for kind in kinds):
        return data
    if not data.strip():
        found = "is empty"
    elif kinds:
        other = " (are the certificate and its key swapped?)" if any(_belongs(kind) for kind in kinds) else ""
        found = f"holds {', '.join(sorted(set(kinds)))} only{other}"
    elif data.startswith(DER):
        found = "is in DER format, not PEM"
    else:
        found = "is not in PEM format"
    raise UserError(f"{path} {found}; it must have a {wanted} block")


def _validity(certificate: x509.Certificate) -> list[datetime.datetime]:
    """From when to when, in UTC. cryptography 3.4, of the Merlin image, has the times without their zone only."""
    names = ("not_valid_before", "not_valid_after")
    found = [getattr(certificate, f"{name}_utc", None) or getattr(certificate, name) for name in names]
    return [one.replace(tzinfo=datetime.timezone.utc) for one in found]


def _belongs(kind: str) -> bool:
    return kind.endswith((CERTIFICATE, PRIVATE_KEY))


def _encoded(public: object) -> bytes:
    encoding, kind = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(public.public_bytes(encoding, kind))  # type: ignore[attr-defined]
